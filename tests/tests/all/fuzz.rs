//! The committed corpora of the fuzz targets, with a stable compiler: seeds, and what once broke something.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agenthost_tests::fuzz::{TARGETS, seeds};
use agenthost_tests::guests::workspace;

use crate::dice;

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

/// Random changes of the seeds, for the seconds in `AGENTHOST_FUZZ_SECONDS` for each target, and a hundred without it. No
/// replacement for cargo-fuzz, which looks for inputs that reach more; it needs no nightly compiler.
#[test]
fn random_changes_of_the_seeds_are_handled() {
    let seconds = std::env::var("AGENTHOST_FUZZ_SECONDS")
        .ok()
        .map(|text| text.parse::<u64>().unwrap());
    for (target, run) in TARGETS {
        let mut inputs: Vec<_> = corpus(target).iter().map(|file| std::fs::read(file).unwrap()).collect();
        inputs.extend(seeds(target).into_iter().map(|(_, bytes)| bytes));
        let (start, mut tried) = (Instant::now(), 0);
        while match seconds {
            Some(seconds) => start.elapsed() < Duration::from_secs(seconds),
            None => tried < 100,
        } {
            let bytes = changed(&inputs, tried);
            let done = std::panic::catch_unwind(|| run(&bytes));
            assert!(done.is_ok(), "{target}, input {tried}: {bytes:?}");
            tried += 1;
        }
        if seconds.is_some() {
            writeln!(std::io::stderr(), "{target}: {tried} inputs in {:?}", start.elapsed()).unwrap();
        }
    }
}

/// The input of this number: one of `inputs` with a few changes.
fn changed(inputs: &[Vec<u8>], number: usize) -> Vec<u8> {
    let mut dice = (0..).map(|n| dice(number as u64, n) as usize);
    let mut roll = |below: usize| dice.next().unwrap_or_default() % below.max(1);
    let mut bytes = inputs[roll(inputs.len())].clone();
    for _ in 0..=roll(6) {
        let at = roll(bytes.len());
        match roll(6) {
            _ if bytes.is_empty() => bytes.push(roll(256) as u8),
            0 => bytes[at] ^= 1 << roll(8),
            1 => bytes[at] = roll(256) as u8,
            2 => bytes.truncate(at.max(1)),
            3 => bytes.insert(at, roll(256) as u8),
            4 => {
                let end = (at + 1 + roll(16)).min(bytes.len());
                let part: Vec<_> = bytes.drain(at..end).collect();
                let to = roll(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            _ => {
                let other = &inputs[roll(inputs.len())];
                let from = roll(other.len());
                let part = &other[from..(from + 1 + roll(32)).min(other.len())];
                bytes.splice(at..at, part.iter().copied());
            }
        }
    }
    bytes
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
