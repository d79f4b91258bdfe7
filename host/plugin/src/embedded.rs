//! The custom sections that a build embeds: the plugin's WIT text with its docs, its manifest, and its provenance.
//!
//! A compiled component keeps the types but not the comments, so `inspect`, schemas and tool descriptions read them
//! from here. The sections are in the component itself or in one of its core modules, where the linker leaves those of
//! the SDK's macro. A component that links several plugins' code may have several, which the package in their name
//! distinguishes.

use std::collections::BTreeMap;

use wit_parser::{Function, PackageName, ParseErrorKind, Resolve, ResolveErrorKind, SourceMap};

use super::custom_sections::{MANIFEST_SECTION, MAX_SECTION, PROVENANCE_SECTION, WIT_SECTION, sections};
use super::manifest::Manifest;
use super::provenance::Provenance;
use super::{bounds, contract};
use crate::types::shape;

/// The maximum number of tools read from one section: a component of three languages has about ten.
const MAX_PRODUCERS: usize = 50;

/// The embedded sections, not yet compared with the component.
#[derive(Default)]
pub(super) struct Embedded {
    wit: Vec<WitText>,
    /// The tools that made the code and the libraries in it, each with its version.
    pub(super) made_with: BTreeMap<String, String>,
    pub(super) manifest: Option<Manifest>,
    pub(super) provenance: Option<Provenance>,
    pub(super) doubts: Vec<String>,
}

/// The files of the plugin's own package and, under `deps/`, of the packages that it uses: names and texts.
#[derive(serde::Deserialize, serde::Serialize)]
pub(crate) struct WitText {
    pub(crate) format: u32,
    pub(crate) files: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) deps: Vec<(String, String)>,
}

pub(super) fn read(bytes: &[u8]) -> Embedded {
    let mut found = Embedded::default();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        let Ok(wasmparser::Payload::CustomSection(section)) = payload else {
            continue;
        };
        let is = |prefix: &str| section.name() == prefix || section.name().starts_with(&format!("{prefix}:"));
        if section.data().len() > MAX_SECTION {
            continue;
        }
        if section.name() == "producers" && found.made_with.len() < MAX_PRODUCERS {
            found.made_with.extend(producers(&section));
        } else if is(WIT_SECTION) {
            match serde_json::from_slice::<WitText>(section.data()) {
                Ok(text) if text.format == 1 => found.wit.push(text),
                Ok(text) => found.doubts.push(format!(
                    "embedded WIT has format {}, and this version reads 1",
                    text.format
                )),
                Err(error) => found.doubts.push(format!("embedded WIT cannot be read: {error}")),
            }
        } else if is(MANIFEST_SECTION) {
            match Manifest::parse(section.data()) {
                Ok(manifest) => found.manifest = Some(manifest),
                Err(why) => found.doubts.push(format!("embedded manifest cannot be read: {why}")),
            }
        }
    }
    let mut records = sections(bytes, PROVENANCE_SECTION);
    match (records.next(), records.next()) {
        (Some(record), None) => match Provenance::parse(record) {
            Ok(provenance) => found.provenance = Some(provenance),
            Err(why) => found.doubts.push(format!("embedded provenance cannot be read: {why}")),
        },
        (Some(_), Some(_)) => found.doubts.push("provenance is embedded more than once".to_owned()),
        (None, _) => {}
    }
    found
}

/// Returns the tools and libraries that a `producers` section names.
fn producers(section: &wasmparser::CustomSectionReader<'_>) -> Vec<(String, String)> {
    let reader = wasmparser::BinaryReader::new(section.data(), section.data_offset());
    let fields = wasmparser::ProducersSectionReader::new(reader).into_iter().flatten();
    let made = fields.flatten().filter(|field| field.name != "language");
    let values = made.flat_map(|field| field.values.into_iter().flatten());
    values
        .take(MAX_PRODUCERS)
        .map(|value| (value.name.to_owned(), value.version.to_owned()))
        .collect()
}

impl Embedded {
    /// Returns the WIT texts. A component that links one plugin's code has one.
    pub(super) fn wit(&self) -> &[WitText] {
        &self.wit
    }

    /// Returns the documented twin of `run` if WIT for the interface `task` is embedded, or an error with the reason
    /// why the WIT is not trusted.
    pub(super) fn docs(
        &self,
        task: &str,
        real: &Resolve,
        run: &Function,
    ) -> Result<Option<(Resolve, Function)>, String> {
        let believed = self.believed(task, real, run)?;
        Ok(believed.map(|believed| (believed.resolve, believed.run)))
    }

    /// Returns the same, together with its text.
    pub(super) fn believed(&self, task: &str, real: &Resolve, run: &Function) -> Result<Option<Believed<'_>>, String> {
        let texts = self.wit.iter().map(|text| text.files.iter().chain(&text.deps));
        bounds::wit(texts.map(|files| files.map(|(_, text)| text.as_str())))
            .map_err(|why| format!("embedded WIT is not parsed: {why}"))?;
        let mut doubt = None;
        for text in &self.wit {
            let (resolve, documented) = match parse(text, task) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(why) => {
                    doubt = Some(format!("embedded WIT does not parse: {why}"));
                    continue;
                }
            };
            match shape::same_shape(real, run, &resolve, &documented) {
                Ok(()) => {
                    return Ok(Some(Believed {
                        text,
                        resolve,
                        run: documented,
                    }));
                }
                Err(difference) => doubt = Some(format!("embedded WIT is not that of the component: {difference}")),
            }
        }
        doubt.map_or(Ok(None), Err)
    }
}

/// An embedded text that agrees with the component.
pub(super) struct Believed<'e> {
    pub(super) text: &'e WitText,
    resolve: Resolve,
    run: Function,
}

/// Returns the function `run` of the interface `task` in the given text, if the text contains that interface.
fn parse(text: &WitText, task: &str) -> Result<Option<(Resolve, Function)>, String> {
    let resolve = resolve(text, "deps").map_err(|error| error.text)?;
    let run = resolve
        .interfaces
        .iter()
        .find(|(id, _)| resolve.id_of(*id).as_deref() == Some(task))
        .and_then(|(_, interface)| interface.functions.get("run"))
        .cloned();
    Ok(run.map(|run| (resolve, run)))
}

/// Returns the package that WIT text declares, as in `demo:competitor@0.1.0`.
pub(super) fn declared_package(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.trim_start().starts_with("package "))?;
    let name = line.trim_start().trim_start_matches("package ");
    name.split(';').next().map(str::trim)
}

/// Resolves the packages of the given text, and the contract. `below` is the directory of the files of other packages.
pub(super) fn resolve(text: &WitText, below: &str) -> Result<Resolve, WitError> {
    let group = |files: &[&(String, String)]| {
        let mut map = SourceMap::default();
        for (name, text) in files {
            map.push_str(name, text.as_str());
        }
        map.parse().map_err(|(map, error)| WitError {
            text: error.render(&map),
            cause: match error.kind() {
                ParseErrorKind::ItemNotFound { name, .. } => WitCause::NoItem(name.clone()),
                _ => WitCause::Other,
            },
        })
    };
    let mut packages: BTreeMap<&str, Vec<&(String, String)>> = BTreeMap::new();
    for file in &text.deps {
        // `deps/name/file.wit` belongs to the package `name`; `deps/file.wit` is a package of its own.
        packages
            .entry(
                file.0
                    .rsplit_once('/')
                    .filter(|(dir, _)| *dir != below)
                    .map_or(&file.0, |(dir, _)| dir),
            )
            .or_default()
            .push(file);
    }
    let mut deps = vec![group(&[&("plugin.wit".to_owned(), contract::TEXT.to_owned())])?];
    for files in packages.values() {
        deps.push(group(files)?);
    }
    let main = group(&text.files.iter().collect::<Vec<_>>())?;
    let mut resolve = Resolve {
        all_features: true,
        ..Resolve::default()
    };
    match resolve.push_groups(main, deps) {
        Ok(_) => Ok(resolve),
        Err(error) => Err(WitError {
            text: error.render(&resolve.source_map),
            cause: match error.kind() {
                ResolveErrorKind::PackageNotFound { requested, .. } => WitCause::NoPackage(requested.clone()),
                _ => WitCause::Other,
            },
        }),
    }
}

/// The error for WIT text that cannot be resolved.
pub(super) struct WitError {
    /// The error with its place and line.
    pub(super) text: String,
    pub(super) cause: WitCause,
}

/// The cause of a [`WitError`], as far as there is advice for it.
pub(super) enum WitCause {
    /// A package that is not among the given text.
    NoPackage(PackageName),
    /// A name that its package does not declare.
    NoItem(String),
    Other,
}
