//! The committed corpora of the fuzz targets, with a stable compiler: seeds, and what once broke something.

use std::path::PathBuf;

use agenthost_tests::fuzz::{TARGETS, seeds};
use agenthost_tests::guests::workspace;

/// The inputs of a target that are committed: its corpus.
fn corpus(target: &str) -> Vec<PathBuf> {
    let dir = workspace().join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_committed_input_is_handled() {
    for (target, run) in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "{target} has no seeds");
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let done = std::panic::catch_unwind(|| run(&bytes));
            assert!(done.is_ok(), "{}", file.display());
        }
        for (name, bytes) in seeds(target) {
            assert!(std::panic::catch_unwind(|| run(&bytes)).is_ok(), "{target} {name}");
        }
        // Every beginning of a small input, and a little of each changed.
        for file in corpus(target).iter().take(4) {
            let bytes = std::fs::read(file).unwrap();
            for length in (0..bytes.len().min(512)).step_by(7) {
                run(&bytes[..length]);
                let mut changed = bytes.clone();
                changed[length] ^= 0x41;
                run(&changed);
            }
        }
    }
}

/// Every target has a program for cargo-fuzz, and every program a target.
#[test]
fn every_target_is_a_program() {
    let manifest: toml::Table = std::fs::read_to_string(workspace().join("fuzz/Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let programs = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["name"].as_str().unwrap().to_owned());
    let targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(programs.collect::<Vec<_>>(), targets);
    for (name, _) in TARGETS {
        let program = std::fs::read_to_string(workspace().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            program.contains(&format!("agenthost_tests::fuzz::{name}(bytes)")),
            "{name}"
        );
    }
}
