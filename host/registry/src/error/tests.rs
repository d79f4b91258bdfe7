//! The causes that a caller can distinguish, with their data. Those of OCI registries and policies are tested there.

use std::fs;
use std::path::Path;

use super::*;
use crate::cache::Cache;
use crate::local::Local;
use crate::lock::Locked;
use crate::project::Project;
use crate::reference::{Reference, Requirement, Tag};
use crate::signature::Signature;
use crate::source::Source as _;
use crate::statement::{Statement, identity};
use crate::testing::{key, plugin};
use crate::vetted::VetFile;
use crate::{asks::Asks, keys, signature};
use agenthost_config::{Config, Env, FileError};

fn project(dir: &Path) -> Result<Project, RegistryError> {
    let env = Env::new([].into(), dir, None);
    Project::open(&Config::load(&env).unwrap(), &env, Some(dir.join("cache")))
}

#[test]
fn a_reference_says_what_is_invalid_of_it() {
    let error = |text: &str| text.parse::<Reference>().unwrap_err();
    assert!(matches!(error("acme:Competitor"), ReferenceError::Name { text, .. } if text == "acme:Competitor"));
    assert!(matches!(error("acme:x@latest"), ReferenceError::Requirement { text, .. } if text == "latest"));
    assert!(matches!(error("acme:x@"), ReferenceError::NoVersion { .. }));
    assert!(matches!(error("acme/x:1"), ReferenceError::Place { .. }));
    assert!(matches!(error("r.example/x@sha256:12"), ReferenceError::Tag { .. }));
}

#[tokio::test]
async fn a_release_that_is_missing_comes_with_those_that_exist() {
    let dir = tempfile::tempdir().unwrap();
    let component = dir.path().join("registry/acme/competitor/1.2.0.wasm");
    fs::create_dir_all(component.parent().unwrap()).unwrap();
    fs::write(&component, "a component").unwrap();
    let local = Local::new(&dir.path().join("registry"), &"acme:competitor".parse().unwrap());
    match local.find(&Tag::Version("1.3.0".parse().unwrap())).await {
        Err(RegistryError::Local(LocalError::NoRelease { version, known, .. })) => {
            assert_eq!(
                (version.to_string().as_str(), known),
                ("1.3.0", vec!["1.2.0".parse().unwrap()])
            );
        }
        other => panic!("{other:?}"),
    }
    let config = "[registries]\nacme = \"./registry\"\n";
    fs::write(dir.path().join("agenthost.toml"), config).unwrap();
    let project = project(dir.path()).unwrap();
    match project.find(&"acme:competitor@^2".parse().unwrap()).await.err() {
        Some(RegistryError::NoRelease { reference, known, .. }) => {
            assert_eq!((reference.as_str(), known.len()), ("acme:competitor@^2", 1));
        }
        other => panic!("{other:?}"),
    }
    match project.find(&"demo:other".parse().unwrap()).await.err() {
        Some(RegistryError::UnknownNamespace { namespace, .. }) => assert_eq!(namespace, "demo"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_cache_tells_a_missing_entry_from_a_changed_one() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().join("cache"));
    let absent = Digest::of(b"absent");
    assert!(matches!(cache.read(&absent), Err(CacheError::Missing { digest }) if digest == absent));
    let digest = cache.put(b"a component").unwrap();
    fs::write(cache.path(&digest), "another").unwrap();
    let problem = TamperProblem::WrongDigest;
    assert!(matches!(cache.read(&digest), Err(CacheError::Tampered { problem: found, .. }) if found == problem));
}

#[test]
fn files_of_another_format_differ_from_broken_ones() {
    let dir = tempfile::tempdir().unwrap();
    let open = |file: &str, text: &str| {
        fs::write(dir.path().join(file), text).unwrap();
        let result = project(dir.path());
        fs::remove_file(dir.path().join(file)).unwrap();
        result.err().unwrap()
    };
    let newer = open("agenthost.lock", "format = 9");
    assert!(
        matches!(newer, RegistryError::Lock(LockError::Format { found: 9, known: 1, .. })),
        "{newer:?}"
    );
    let broken = open("agenthost.lock", "format = 1\nformat = 2");
    assert!(
        matches!(broken, RegistryError::Lock(LockError::Syntax { line: Some(2), .. })),
        "{broken:?}"
    );
    let newer = open("vetted.toml", "format = 9");
    assert!(
        matches!(newer, RegistryError::Vet(VetError::Format { found: 9, known: 1, .. })),
        "{newer:?}"
    );
    let policy = open("agenthost-policy.toml", "[paths]\n");
    assert!(
        matches!(
            policy,
            RegistryError::Policy(PolicyError::File(FileError::MissingKey { key: "format", .. }))
        ),
        "{policy:?}"
    );
    let env = Env::new([].into(), dir.path(), None);
    fs::create_dir(dir.path().join("vetted.toml")).unwrap();
    let unreadable = VetFile::load(&env, Path::new("vetted.toml")).unwrap_err();
    assert!(
        matches!(unreadable, VetError::File(FileError::Read { .. })),
        "{unreadable:?}"
    );
}

#[test]
fn a_lock_entry_that_differs_names_the_field_and_both_values() {
    let bytes = b"a component";
    let plugin = plugin("acme:competitor", "1.2.0", bytes);
    let (name, version) = identity(&plugin).unwrap();
    let mut locked = Locked {
        name,
        version,
        digest: Digest::of(b"another"),
        size: bytes.len() as u64,
        wanted: Requirement::any(),
        source: "./registry".into(),
        signer: None,
        signatures: Vec::new(),
        asks: Asks::of(&plugin),
    };
    match locked.check(&plugin) {
        Err(LockError::Differs {
            what, locked, found, ..
        }) => {
            let digests = [Digest::of(b"another"), Digest::of(bytes)].map(|digest| digest.to_string());
            assert_eq!((what, [locked, found]), ("digest", digests));
        }
        other => panic!("{other:?}"),
    }
    locked.digest = plugin.digest;
    locked.asks.imports.clear();
    assert!(matches!(locked.check(&plugin), Err(LockError::Asks { .. })));
}

#[test]
fn a_signature_is_broken_of_another_key_or_of_other_bytes() {
    let bytes = b"a component";
    let plugin = plugin("acme:competitor", "1.2.0", bytes);
    let ((secret, public), (_, stranger)) = (key(), key());
    let text = signature::sign(&secret, bytes, &Statement::of(&plugin).unwrap()).unwrap();
    assert!(matches!(
        Signature::parse("nonsense"),
        Err(SignatureError::Broken { .. })
    ));
    let signature = Signature::parse(&text).unwrap();
    let other = signature.verify(&stranger, bytes).unwrap_err();
    assert!(
        matches!(&other, SignatureError::OtherKey { found, wanted } if *found == public.id() && *wanted == stranger.id()),
        "{other:?}"
    );
    let invalid = signature.verify(&public, b"other bytes").unwrap_err();
    assert!(
        matches!(&invalid, SignatureError::Invalid { key } if *key == public.id()),
        "{invalid:?}"
    );
}

#[test]
fn a_signing_key_is_missing_with_the_names_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    keys::create(dir.path(), "mine", None).unwrap();
    let missing = keys::open(dir.path(), "other", || Err(Error::usage("not asked for"))).unwrap_err();
    assert!(
        matches!(&missing, SigningKeyError::Missing { name, known, .. } if name == "other" && known == &["mine"]),
        "{missing:?}"
    );
    let exists = keys::create(dir.path(), "mine", None).unwrap_err();
    assert!(
        matches!(&exists, SigningKeyError::Exists { path } if path.ends_with("mine.key")),
        "{exists:?}"
    );
}

#[test]
fn a_typed_error_survives_the_border_with_its_causes() {
    let dir = tempfile::tempdir().unwrap();
    let missing = signature::verify_file(&dir.path().join("x.wasm"), &dir.path().join("x.minisig"), &key().1);
    let error = Error::from(missing.unwrap_err());
    let typed: Option<&SignatureError> = error.downcast_ref();
    assert!(matches!(typed, Some(SignatureError::File(_))), "{error:?}");
    let inner = CacheError::Interrupted {
        received: 5,
        announced: 10,
    };
    let error = Error::from(RegistryError::Cache(inner).at("acme:competitor 1.2.0"));
    assert_eq!(error.class(), ErrorClass::Plugin);
    let typed: Option<&RegistryError> = error.downcast_ref();
    match typed {
        Some(RegistryError::At { source, .. }) => {
            assert!(matches!(
                **source,
                RegistryError::Cache(CacheError::Interrupted { received: 5, .. })
            ));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        agenthost_core::error::with_causes(&error),
        "acme:competitor 1.2.0: the transfer ended after 5 of 10 bytes"
    );
}
