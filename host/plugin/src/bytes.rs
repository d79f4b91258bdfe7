//! Identifies the bytes of a plugin before anything parses them completely.
//!
//! The common mistakes (a core module, text, a web page, a precompiled image) are recognized by their first bytes, so
//! that each gets a specific error. The contents of a component are bounded by [`bounds`](super::bounds).

use std::path::Path;

use crate::error::{ComponentError, CoreEnvironment, PluginFileError};
use agenthost_core::plain_file::{self, Links};

/// The maximum size of a plugin, in bytes. A component made by componentize-py, the largest in use, has 20 MB.
pub const MAX_PLUGIN_BYTES: u64 = 64 << 20;

/// Reads a plugin file of at most [`MAX_PLUGIN_BYTES`] without checking its content.
///
/// # Errors
///
/// Returns an error of class [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if `path` cannot be read, is not a
/// file, or is larger.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// let file = dir.path().join("plugin.wasm");
/// std::fs::write(&file, b"\0asm")?;
/// assert_eq!(agenthost_plugin::read(&file)?, b"\0asm");
/// assert!(agenthost_plugin::read(dir.path()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: &Path) -> Result<Vec<u8>, PluginFileError> {
    let owned = || path.to_owned();
    let error = |source| PluginFileError::Read { path: owned(), source };
    let meta = std::fs::metadata(path).map_err(error)?;
    if !meta.is_file() {
        return Err(PluginFileError::NotAFile { path: owned() });
    }
    if meta.len() > MAX_PLUGIN_BYTES {
        return Err(PluginFileError::TooLarge {
            path: owned(),
            bytes: meta.len(),
            most: MAX_PLUGIN_BYTES,
        });
    }
    plain_file::read(path, Links::Follow, MAX_PLUGIN_BYTES).map_err(error)
}

/// Counts the parts of a component and returns the bytes that an instance of it holds, as
/// [`structure`](super::bounds::structure) does. Returns an error that identifies `bytes` if they are not a component.
pub(super) fn check(bytes: &[u8]) -> Result<u64, ComponentError> {
    Err(match bytes {
        [] => ComponentError::Empty,
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return super::bounds::structure(bytes),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => core_module(bytes),
        [b'\0', b'a', b's', b'm', ..] if bytes.len() >= 8 => ComponentError::OtherVersion,
        _ if bytes.starts_with(b"\x7fELF") => ComponentError::NativeCode,
        _ if bytes.trim_ascii_start().starts_with(b"(") => ComponentError::Text,
        _ => ComponentError::NotWasm,
    })
}

/// Returns the error for a core module.
pub(super) fn core_module(bytes: &[u8]) -> ComponentError {
    let modules = core_imports(bytes);
    let imports = |known: fn(&str) -> bool| modules.iter().any(|module| known(module));
    let built_for = if imports(|module| module.starts_with("wasi_")) {
        CoreEnvironment::Preview1
    } else if imports(|module| module.contains("wbindgen") || module == "wbg") {
        CoreEnvironment::Web
    } else {
        CoreEnvironment::Unknown
    };
    ComponentError::CoreModule { built_for }
}

/// The names of the modules that a core module imports from.
fn core_imports(bytes: &[u8]) -> Vec<String> {
    let mut modules = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(wasmparser::Payload::ImportSection(section)) => {
                let imports = section.into_imports().map_while(Result::ok);
                modules.extend(imports.map(|import| import.module.to_owned()));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> String {
        check(bytes).unwrap_err().to_string()
    }

    #[test]
    fn everything_that_is_no_component_is_told_apart() {
        assert_eq!(said(b""), "the file is empty");
        assert_eq!(
            said(b"\0asm\x01\0\0\0"),
            "the file is a core WebAssembly module, not a component"
        );
        assert_eq!(
            said(b"(component)"),
            "the file is WebAssembly text, not a binary component"
        );
        assert_eq!(said(b"<!doctype html>"), "the file is not WebAssembly");
        assert_eq!(said(b"\x7fELF\x02\x01\x01"), "the file is native code, not WebAssembly");
        assert_eq!(
            said(b"\0asm\x09\0\0\0"),
            "the file is WebAssembly of a version that this host does not know"
        );
        assert!(said(b"\0asm\x0d\0\x01\0\xff\xff").starts_with("the component is broken: "));
    }

    #[test]
    fn a_preview_1_module_is_named_as_such() {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        // One type `func`, and one import of it from `wasi_snapshot_preview1`, named `x`.
        module.extend([1, 4, 1, 0x60, 0, 0]);
        let name = b"wasi_snapshot_preview1";
        module.extend([
            2,
            u8::try_from(name.len() + 6).unwrap(),
            1,
            u8::try_from(name.len()).unwrap(),
        ]);
        module.extend(name);
        module.extend([1, b'x', 0, 0]);
        assert_eq!(
            said(&module),
            "the file is a core module for WASI preview 1, not a component"
        );
    }
}
