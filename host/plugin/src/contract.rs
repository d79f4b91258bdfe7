//! The contract between plugins and this host, `agenthost:plugin`, and how a component's version of it differs.
//!
//! The version in an import's name promises compatible types, but a component of a newer SDK may call a function that
//! was added later. This module finds such functions by name, before a linker fails at the first of them.

use wit_parser::{InterfaceId, Resolve};

use crate::types::shape;

/// The contract as WIT text.
pub(super) const TEXT: &str = include_str!("../../../wit/plugin.wit");

/// The contract's package, without its version.
pub(super) const PACKAGE: &str = "agenthost:plugin";

/// Returns the functions of the imported `interface` that this host does not have, or has with other types, as
/// `agenthost:plugin/llm@0.1.0#stream`.
pub(super) fn unknown_functions(resolve: &Resolve, interface: InterfaceId, import: &str) -> Vec<String> {
    let Some(imported) = resolve.interfaces.get(interface) else {
        return Vec::new();
    };
    if imported.functions.is_empty() {
        return Vec::new();
    }
    let mut own = Resolve::default();
    if own.push_str("plugin.wit", TEXT).is_err() {
        return Vec::new();
    }
    let own_functions = own
        .interfaces
        .iter()
        .find(|(_, candidate)| candidate.name.as_deref() == plain_name(import))
        .map(|(_, candidate)| &candidate.functions);
    let known = |name: &str| own_functions.and_then(|functions| functions.get(name));
    imported
        .functions
        .iter()
        .filter(|(name, function)| {
            known(name).is_none_or(|known| shape::same_shape(resolve, function, &own, known).is_err())
        })
        .map(|(name, _)| format!("{import}#{name}"))
        .collect()
}

/// Returns `llm` for `agenthost:plugin/llm@0.1.0`.
fn plain_name(import: &str) -> Option<&str> {
    import.split('@').next()?.split_once('/').map(|(_, name)| name)
}
