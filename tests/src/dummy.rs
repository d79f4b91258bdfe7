//! Components with types but without code: every call traps.
//!
//! They are made quickly from WIT text, for tests of the checks that precede a run.

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

const CONTRACT: &str = include_str!("../../wit/plugin.wit");

/// A component of the only world in the last of `packages`; the ones before it are what it uses.
///
/// # Panics
///
/// If the WIT is invalid.
pub fn component(packages: &[&str]) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("plugin.wit", CONTRACT).unwrap();
    let mut last = None;
    for package in packages {
        last = Some(resolve.push_str("package.wit", package).unwrap());
    }
    let world = resolve.select_world(&[last.unwrap()], None).unwrap();
    let abi = ManglingAndAbi::Legacy(LiftLowerAbi::AsyncCallback);
    let mut module = dummy_module(&resolve, world, abi);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let mut encoder = ComponentEncoder::default().module(&module).unwrap().validate(true);
    encoder.encode().unwrap()
}
