//! The guests of the corpus as components.
//!
//! A file in `tests/attack/guests/` is a component in text form, or a module that exports the `run` of one of the packages
//! of `tests/attack/wit/`, under the names that `wit-component` gives to a guest's imports and exports.

use wasm_encoder::{ComponentSection as _, InstanceSection};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::bombs::section;
use super::corpus;

const CONTRACT: &str = include_str!("../../../wit/plugin.wit");

/// The guests whose texts are latin1 or UTF-16 instead of UTF-8.
const COMPACT_UTF16: [&str; 2] = ["text-surrogate", "text-odd"];

/// The component of the guest of this name.
///
/// # Panics
///
/// If there is no such guest or it cannot be encoded.
pub fn component(guest: &str) -> Vec<u8> {
    let encoding = match COMPACT_UTF16.contains(&guest) {
        true => StringEncoding::CompactUTF16,
        false => StringEncoding::UTF8,
    };
    component_with(guest, encoding)
}

/// The component of the guest of this name, whose texts have this encoding.
///
/// # Panics
///
/// If there is no such guest or it cannot be encoded.
pub(super) fn component_with(guest: &str, encoding: StringEncoding) -> Vec<u8> {
    let path = corpus().join("guests").join(guest).with_extension("wat");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let is_component = text.lines().any(|line| line.starts_with("(component"));
    if is_component {
        return bytes;
    }
    encode(encoding, &text, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The same component with as many parts as one may have: 4 memories, 32 tables, 100 core instances.
///
/// # Panics
///
/// If the bytes are not those of a component.
pub fn wide(component: &[u8]) -> Vec<u8> {
    let (mut modules, mut instances, mut memories, mut tables, mut depth) = (0, 0, 0, 0, 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ModuleSection { .. } => modules += 1,
            Payload::MemorySection(section) => memories += section.count(),
            Payload::TableSection(section) => tables += section.count(),
            Payload::InstanceSection(section) => {
                let made = section.into_iter().map(Result::unwrap);
                instances += made
                    .filter(|made| matches!(made, wasmparser::Instance::Instantiate { .. }))
                    .count();
            }
            _ => {}
        }
    }
    assert_eq!(depth, 0);
    let parts = [
        ("(memory 1)", 4 - memories as usize),
        ("(table 1 funcref)", 32 - tables as usize),
    ];
    let empty = 100 - instances - parts.iter().map(|(_, count)| count).sum::<usize>();
    let mut out = component.to_vec();
    let mut made = InstanceSection::new();
    for (part, count) in parts.into_iter().chain([("", empty)]) {
        out.extend(section(1, &wat::parse_str(format!("(module {part})")).unwrap()));
        (0..count).for_each(|_| {
            made.instantiate(modules, std::iter::empty::<(&str, wasm_encoder::ModuleArg)>());
        });
        modules += 1;
    }
    made.append_to_component(&mut out);
    out
}

/// Encodes a module as a component of the package whose `run` it exports.
fn encode(encoding: StringEncoding, text: &str, mut module: Vec<u8>) -> Result<Vec<u8>, String> {
    let (_, export) = text
        .split_once("(export \"[async-lift]attack:")
        .or_else(|| text.split_once("(export \"attack:"))
        .ok_or("no `run`")?;
    let (package, _) = export.split_once('/').ok_or("no `run`")?;
    let said = |error: &dyn std::fmt::Display| format!("{error:#}");
    let mut resolve = Resolve::default();
    resolve.push_str("plugin.wit", CONTRACT).map_err(|error| said(&error))?;
    for file in ["wasi.wit", "guests.wit"] {
        let path = corpus().join("wit").join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| said(&error))?;
        resolve.push_str(file, &text).map_err(|error| said(&error))?;
    }
    let name = format!("attack:{package}/plugin@0.1.0");
    let packages: Vec<_> = resolve.packages.iter().map(|(id, _)| id).collect();
    let world = resolve
        .select_world(&packages, Some(&name))
        .map_err(|error| said(&error))?;
    embed_component_metadata(&mut module, &resolve, world, encoding).map_err(|error| said(&error))?;
    let encoder = ComponentEncoder::default()
        .module(&module)
        .map_err(|error| format!("{error:#}"))?;
    encoder.validate(true).encode().map_err(|error| format!("{error:#}"))
}

/// The names of all guests, in order, each with its comment: what it does.
///
/// # Panics
///
/// If the corpus cannot be read.
pub fn all() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(corpus().join("guests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let comment = text.lines().next().and_then(|line| line.strip_prefix(";; "));
        found.push((name, comment.unwrap_or_default().to_owned()));
    }
    found.sort();
    found
}
