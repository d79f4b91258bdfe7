//! The causes that a caller can distinguish, with their data.

use std::io::ErrorKind;
use std::path::Path;

use super::super::scratch::Scratch;
use crate::trust::{self, crates::CrateBuild};
use crate::{Config, ConfigError, DirGrant, EntryProblem, FileError, KeyError, KeySource, TrustError};
use agenthost_core::error::{Error, ErrorClass};

fn error(project: &str) -> ConfigError {
    Scratch::project(project).load_error()
}

#[test]
fn a_file_that_is_missing_differs_from_one_that_is_too_large() {
    let scratch = Scratch::new();
    match Config::load_from(&scratch.env(), Path::new("missing.toml")).unwrap_err() {
        ConfigError::File(FileError::Read {
            path,
            named: true,
            source,
            ..
        }) => {
            assert_eq!(path, scratch.path("project/missing.toml"));
            assert_eq!(source.kind(), ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
    match error(&"#".repeat((1 << 20) + 1)) {
        ConfigError::File(FileError::TooLarge { limit, .. }) => assert_eq!(limit, 1 << 20),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_entry_has_its_place_and_its_problem() {
    match error("[limits]\ncalls = []") {
        ConfigError::File(FileError::Entry {
            at,
            section,
            key,
            problem,
            ..
        }) => {
            assert_eq!((at.line(), section.as_str(), key.as_str()), (2, "limits", "calls"));
            let expected = "a number or a string";
            assert_eq!(
                problem,
                EntryProblem::Type {
                    expected,
                    found: "array"
                }
            );
        }
        other => panic!("{other:?}"),
    }
    let name = error("[grants.competitor]");
    let is_name = matches!(&name, ConfigError::File(FileError::Entry { problem: EntryProblem::Name(_), section, .. }) if section == "grants");
    assert!(is_name, "{name:?}");
    match error("[models]\nfast = \"antropic/x\"") {
        ConfigError::UnknownProvider {
            at,
            model,
            provider,
            known,
            ..
        } => {
            assert_eq!(at.map(|at| at.line()), Some(2));
            assert_eq!((model.as_str(), provider.as_str()), ("fast", "antropic"));
            assert_eq!(known, ["anthropic", "offline", "openai"]);
        }
        other => panic!("{other:?}"),
    }
    let limit = error("[compile]\nmemory = \"64GiB\"");
    assert!(
        matches!(limit, ConfigError::CompileLimit { key: "memory", .. }),
        "{limit:?}"
    );
}

#[test]
fn what_needs_trust_is_said_with_the_address_the_directory_and_the_crate() {
    match error("[models]\na = \"x/y\"\n[providers.x]\nkind = \"openai\"\nbase-url = \"https://evil.example\"") {
        ConfigError::Trust(TrustError::Provider {
            provider,
            address,
            key: None,
            clear: false,
            changed: false,
            ..
        }) => assert_eq!((provider.as_str(), address.as_str()), ("x", "https://evil.example")),
        other => panic!("{other:?}"),
    }
    match error("[grants.\"a:b\"]\ndirs = [\"/srv::/data\"]") {
        ConfigError::Trust(TrustError::Directory {
            plugin, inside: false, ..
        }) => assert_eq!(plugin, "a:b"),
        other => panic!("{other:?}"),
    }
    let scratch = Scratch::new();
    scratch.write("project/a/Cargo.toml", "[package]\nname = \"a\"\n");
    let refusal = CrateBuild::of(&scratch.env(), Path::new("a")).unwrap().refusal();
    assert!(
        matches!(&refusal, TrustError::Crate { dir, .. } if *dir == scratch.path("project/a")),
        "{refusal:?}"
    );
}

#[test]
fn a_record_of_another_format_differs_from_a_broken_one() {
    let scratch = Scratch::new();
    let record = |text: &str| {
        scratch.write("home/.local/state/agenthost/trust.toml", text);
        trust::list(&scratch.env()).unwrap_err()
    };
    let newer = record("format = 6");
    assert!(
        matches!(newer, TrustError::RecordFormat { found: 6, known: 5, .. }),
        "{newer:?}"
    );
    let broken = record("format = ");
    assert!(matches!(broken, TrustError::BrokenRecord { .. }), "{broken:?}");
}

#[test]
fn a_key_is_missing_malformed_or_open_to_others() {
    let text = "[providers.openai]\nkey-file = \"~/key\"\n[providers.corp]\nkind = \"openai\"\nkey-env = \"CORP\"";
    let scratch = Scratch::new().user(text);
    let key = |provider: &str| scratch.load().key(provider).unwrap_err();
    let unset = key("corp");
    assert!(
        matches!(&unset, KeyError::Unset { variable, .. } if variable == "CORP"),
        "{unset:?}"
    );
    let missing = key("openai");
    assert!(
        matches!(&missing, KeyError::Read { source, .. } if source.kind() == ErrorKind::NotFound),
        "{missing:?}"
    );
    scratch.write("home/key", "sk-x");
    let open = key("openai");
    assert!(
        matches!(open, KeyError::OpenToOthers { mode, .. } if mode & 0o077 != 0),
        "{open:?}"
    );
    scratch.write_key("home/key", "two words");
    let malformed = key("openai");
    assert!(
        matches!(&malformed, KeyError::Malformed { place: KeySource::File(path) } if path.ends_with("key")),
        "{malformed:?}"
    );
    assert!(matches!(key("nobody"), KeyError::UnknownProvider { .. }));
}

#[test]
fn a_typed_error_survives_the_border() {
    let error = Error::from(DirGrant::parse(&Scratch::new().env(), "data").unwrap_err()).context("an argument");
    assert_eq!(error.class(), ErrorClass::Usage);
    let typed: Option<&crate::DirGrantError> = error.downcast_ref();
    assert!(typed.is_some_and(|typed| typed.problem.starts_with("`data` is not a directory")));
}
