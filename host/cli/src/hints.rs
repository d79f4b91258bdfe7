//! The next step for an error, in the words of the command line.
//!
//! The library's errors carry data, and their own hints name files and keys. This module adds commands and flags for
//! the errors that have one. There is one function for each crate.

mod config;
mod registry;

use std::io::ErrorKind;

use agenthost::error::{BatchError, Classify as _, ComponentError, Error, ImportsRefused, LoadError};
use agenthost::journal::{CassetteError, JournalError};
use agenthost::registry::SigningKeyError;
use agenthost::sandbox::SandboxError;

/// Returns the hint for an error: the one that a command set, else the command line's for the typed error, else the
/// library's.
pub(super) fn hint(error: &Error) -> Option<String> {
    let set = error.added_hint().map(str::to_owned);
    set.or_else(|| load(error))
        .or_else(|| batch(error))
        .or_else(|| config::hint(error))
        .or_else(|| registry::hint(error))
        .or_else(|| password(error))
        .or_else(|| journal(error))
        .or_else(|| plugin(error))
        .or_else(|| sandbox(error))
        .or_else(|| error.hint().map(str::to_owned))
}

/// Returns the hint for the reason why the password of a key was not read.
fn password(error: &Error) -> Option<String> {
    match error.downcast_ref()? {
        SigningKeyError::Password(error) => hint(error),
        _ => None,
    }
}

fn load(error: &Error) -> Option<String> {
    match error.downcast_ref()? {
        LoadError::CannotBuild { .. } => Some("Give the .wasm file that `agenthost build` makes.".into()),
        LoadError::Directory { plugin, .. } => Some(format!(
            "Create the directory, or correct --dir or `dirs` in [grants.\"{plugin}\"]; it must not be a link."
        )),
        LoadError::Undeclared { name, .. } => Some(format!(
            "Name its place: `agenthost add {name}` for one of a registry, --with {name}=PLUGIN, or `\"{name}\" = \"PATH\"` \
             under [sub-agents] in agenthost.toml, or [package.metadata.agenthost.sub-agents] in the plugin's Cargo.toml."
        )),
        LoadError::Mismatch { name, wanted_name, .. } => Some(format!(
            "Build {name} again against the {wanted_name} that it is given (`agenthost build` copies its WIT), or give it another."
        )),
        _ => None,
    }
}

fn batch(error: &Error) -> Option<String> {
    let hint = match error.downcast_ref()? {
        BatchError::UnknownFormat { .. } => "Give --format jsonl, --format csv or --format json.",
        BatchError::Device { .. } => "Give a file of items, or `-` for stdin.",
        BatchError::Format { problem, .. } if problem.starts_with("the header: ") => {
            "Correct the first line of the file: each column needs a name of its own."
        }
        BatchError::Format { .. } => {
            "The items are JSON Lines, CSV or a JSON array, as the file's name or --format specifies."
        }
        BatchError::Together { .. } => "Put fewer items into a task with a smaller --size.",
        BatchError::Write { source, .. } => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "Make room, or name a file elsewhere with --output."
            }
            ErrorKind::BrokenPipe => "The reader of the results has ended; keep them with --output FILE.",
            _ => "Name a file that can be written with --output.",
        },
        _ => return None,
    };
    Some(hint.into())
}

fn journal(error: &Error) -> Option<String> {
    if let Some(cassette) = error.downcast_ref::<CassetteError>() {
        return match cassette {
            CassetteError::Read { .. } | CassetteError::TooLarge { .. } | CassetteError::Invalid { .. } => {
                Some("Fix the file, or record it again: agenthost run PLUGIN --input … --record FILE".into())
            }
            _ => cassette.hint(),
        };
    }
    match error.downcast_ref()? {
        JournalError::Link { .. } => Some(
            "Remove the link; to keep the journal elsewhere, name its place with --journal, or with `file` under [journal] in your own configuration"
                .into(),
        ),
        _ => None,
    }
}

fn plugin(error: &Error) -> Option<String> {
    if let Some(refused) = error.downcast_ref::<ImportsRefused>() {
        let own = error.hint().filter(|_| refused.is_about_files())?;
        return Some(format!(
            "{}, or --dir HOST::GUEST if it is the plugin that is run.",
            own.trim_end_matches('.')
        ));
    }
    match error.downcast_ref()? {
        ComponentError::Empty | ComponentError::OtherVersion | ComponentError::Text | ComponentError::NotWasm => {
            Some("Build it with `agenthost build`, or with `cargo build --release --target wasm32-wasip2`.".into())
        }
        ComponentError::CoreModule { built_for } => Some(format!(
            "It was built for {}; build it for wasm32-wasip2, for example with `agenthost build`.",
            built_for.target()
        )),
        _ => None,
    }
}

fn sandbox(error: &Error) -> Option<String> {
    match error.downcast_ref()? {
        SandboxError::StartCompiler { .. } => {
            Some("The machine may be out of processes or memory; `agenthost doctor` shows what it allows.".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost::plugin::{Import, PluginInfo, refuse};

    #[test]
    fn the_flag_that_grants_a_directory_is_named_for_the_file_system_alone() {
        let refused = |import: &str| {
            let error = refuse("demo:reader", &[Import::classify(import)], false, None).unwrap_err();
            hint(&error.into()).unwrap()
        };
        assert!(refused("wasi:filesystem/types@0.2.6").ends_with(
            "`dirs = [\"HOST::GUEST\"]` in [grants.\"demo:reader\"], or --dir HOST::GUEST if it is the plugin that is run."
        ));
        assert!(!refused("wasi:sockets/tcp@0.2.6").contains("--dir"));
    }

    #[test]
    fn the_flag_that_moves_the_journal_is_named_for_a_link() {
        let error = Error::from(JournalError::Link { path: "j.db".into() });
        assert!(hint(&error).unwrap().contains("--journal"));
        assert!(!error.hint().unwrap().contains("--journal"));
    }

    #[test]
    fn a_file_that_is_not_a_component_can_be_built() {
        let told = |bytes: &[u8]| {
            let error = Error::from(PluginInfo::read(bytes).unwrap_err()).at("x.wasm".as_ref());
            hint(&error).unwrap()
        };
        assert!(told(b"(component)").contains("`agenthost build`"));
        assert!(told(b"\0asm\x01\0\0\0").contains("wasm32-unknown-unknown"));
        assert!(
            !told(b"\x7fELF").contains("agenthost build"),
            "the library's own hint is enough"
        );
    }
}
