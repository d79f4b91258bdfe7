//! Text that people and other programs write: references, and the files of a project.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use agenthost::PluginSource;
use agenthost::config::{Config, Env, ModelRef};
use agenthost::journal::cassette::Cassette;
use agenthost::limits::{LimitsPatch, Usd};
use agenthost::plugin::Digest;
use agenthost::providers::script::Script;
use agenthost::registry::project::Project;
use agenthost::registry::reference::{Name, OciReference, Reference, Requirement};
use agenthost::registry::signature::{PublicKey, Signature};
use agenthost::registry::vetted::VetFile;

use super::scratch;

/// Names of plugins, versions, registries, models, digests, keys and amounts.
pub fn references(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    again::<Reference>(text);
    again::<OciReference>(text);
    again::<Name>(text);
    again::<Requirement>(text);
    again::<Digest>(text);
    again::<ModelRef>(text);
    again::<PublicKey>(text);
    if let Ok(amount) = text.parse::<Usd>() {
        // It is written in whole micro-dollars.
        let written = amount.to_string();
        assert_eq!(written.parse::<Usd>().map(|again| again.to_string()), Ok(written));
    }
    let _ = Signature::parse(text);
    if let Ok(PluginSource::Path(path)) = PluginSource::parse(text, scratch()) {
        assert!(!Reference::looks_like_one(text) && path == scratch().join(text));
    }
    for limit in ["tokens", "cost", "calls", "fuel", "memory", "time", "tasks", "depth"] {
        let _ = LimitsPatch::default().set(limit, text);
    }
}

/// A parsed document is written so that it parses to the same.
fn again<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let written = read.to_string();
        match written.parse::<T>() {
            Ok(again) => assert_eq!(again, read, "{text:?} {written:?}"),
            Err(_) => panic!("{text:?} is written as {written:?}, which cannot be read"),
        }
    }
}

/// A file of a project or of a user; the first byte selects which.
pub fn files(bytes: &[u8]) {
    let Some((which, text)) = bytes.split_first() else {
        return;
    };
    let dir = scratch().join("project");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let env = Env::new(BTreeMap::new(), &dir, None);
    let write = |name: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    match which % 6 {
        0 => {
            write("agenthost.toml");
            if let Ok(config) = Config::load(&env) {
                let _ = agenthost::price::PriceTable::of(&config);
                for schedule in config.schedules().values() {
                    let times = &schedule.times;
                    let now = 1_795_961_669_897;
                    assert!(times.next(now).is_none_or(|next| next > now));
                    assert!(times.last(0, now).is_none_or(|last| last <= now));
                    assert!(times.per_day(now) <= 86_400);
                }
            }
        }
        1 => {
            write("agenthost.lock");
            let config = Config::load(&env).unwrap();
            if let Ok(project) = Project::open(&config, &env, None) {
                let lock = project.lock().clone();
                lock.write().unwrap();
                let again = Project::open(&config, &env, None).unwrap();
                assert_eq!(*again.lock(), lock, "it is read as another than it is written");
                for locked in lock.plugins() {
                    let _ = lock.below(&locked.name);
                }
            }
        }
        2 => {
            write("agenthost-policy.toml");
            let config = Config::load(&env).unwrap();
            if let Ok(project) = Project::open(&config, &env, None) {
                let policy = project.policy();
                let _ = (policy.keys(), policy.vet_files(), policy.files().count());
            }
        }
        3 => {
            let path = write("vetted.toml");
            if let Ok(file) = VetFile::load(&env, &path)
                && let Some(entry) = file.entries().last()
            {
                VetFile::record(&env, &path, entry.clone()).unwrap();
                let again = VetFile::load(&env, &path).unwrap();
                assert!(again.entries().len() <= file.entries().len());
            }
        }
        4 => {
            let path = write("cassette.json");
            if let Ok(cassette) = Cassette::read(&path) {
                let _ = (cassette.plugin_name(), cassette.limits(), cassette.calls());
                cassette.write(&path).unwrap();
                let again = Cassette::read(&path).expect("a cassette that was written can be read");
                assert_eq!(cassette.calls(), again.calls());
                let _ = cassette.with_headroom();
            }
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(text) {
                let _ = Script::parse(text, "fuzz");
            }
        }
    }
}
