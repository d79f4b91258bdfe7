//! Identifies the bytes of a plugin before anything parses them completely.
//!
//! The common mistakes (a core module, text, a web page, a precompiled image) are recognized by their first bytes, so
//! that each gets a specific error. The contents of a component are bounded by [`bounds`](super::bounds).

use std::path::Path;

use agenthost_core::error::Error;
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
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let error = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "Give a .wasm file or a crate directory that exists, or a plugin of agenthost.lock as NAMESPACE:NAME."
            }
            _ => "Make the file readable for this user.",
        };
        Error::plugin(format!("{}: {error}", path.display())).with_hint(hint)
    };
    let meta = std::fs::metadata(path).map_err(error)?;
    if !meta.is_file() {
        return Err(Error::plugin(format!("{}: not a file", path.display()))
            .with_hint("Give a .wasm file or a crate directory."));
    }
    if meta.len() > MAX_PLUGIN_BYTES {
        let (size, limit) = (meta.len() >> 20, MAX_PLUGIN_BYTES >> 20);
        return Err(Error::plugin(format!(
            "{}: {size} MiB, and a plugin has at most {limit} MiB",
            path.display()
        ))
        .with_hint("Build it in release mode and without debug information, or give the right file."));
    }
    plain_file::read(path, Links::Follow, MAX_PLUGIN_BYTES).map_err(error)
}

/// Counts the parts of a component and returns the bytes that an instance of it holds, as
/// [`structure`](super::bounds::structure) does. Returns an error that identifies `bytes` if they are not a component.
pub(super) fn check(bytes: &[u8]) -> Result<u64, Error> {
    const BUILD: &str = "Build it with `agenthost build`, or with `cargo build --release --target wasm32-wasip2`.";
    match bytes {
        [] => Err(Error::plugin("the file is empty").with_hint(BUILD)),
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => super::bounds::structure(bytes),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            let modules = core_imports(bytes);
            let imports = |known: fn(&str) -> bool| modules.iter().any(|module| known(module));
            let (what, target) = if imports(|module| module.starts_with("wasi_")) {
                ("a core module for WASI preview 1", "wasm32-wasip1")
            } else if imports(|module| module.contains("wbindgen") || module == "wbg") {
                ("a core module for a web page", "wasm32-unknown-unknown")
            } else {
                (
                    "a core WebAssembly module",
                    "wasm32-unknown-unknown or another target without components",
                )
            };
            let what = format!("{what}, not a component");
            let hint =
                format!("It was built for {target}; build it for wasm32-wasip2, for example with `agenthost build`.");
            Err(Error::plugin(format!("the file is {what}")).with_hint(hint))
        }
        [b'\0', b'a', b's', b'm', ..] if bytes.len() >= 8 => {
            Err(Error::plugin("the file is WebAssembly of a version that this host does not know").with_hint(BUILD))
        }
        _ if bytes.starts_with(b"\x7fELF") => Err(Error::plugin("the file is native code, not WebAssembly")
            .with_hint("Precompiled plugins are never loaded; give the .wasm file.")),
        _ if bytes.trim_ascii_start().starts_with(b"(") => {
            Err(Error::plugin("the file is WebAssembly text, not a binary component").with_hint(BUILD))
        }
        _ => Err(Error::plugin("the file is not WebAssembly").with_hint(BUILD)),
    }
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
