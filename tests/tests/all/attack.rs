//! The attack corpus: that it is complete, that `docs/security.md` describes all of it, and a few seconds of it.
//!
//! `cargo xtask attack` runs all of it.

use std::collections::BTreeSet;

use agenthost_tests::attack::cases::{cases, threats};
use agenthost_tests::attack::component::{all, component};
use agenthost_tests::attack::report::{FILE, Part, fixed};
use agenthost_tests::attack::run::Program;
use agenthost_tests::guests::workspace;

/// The guests that scenarios run.
const OF_SCENARIOS: [&str; 7] = [
    "complete-dropped",
    "complete-injects",
    "complete-once",
    "crowd",
    "neighbour",
    "texts-passed",
    "texts-returned",
];

#[test]
fn every_guest_can_be_encoded_says_what_it_does_and_is_run() {
    let cases = cases();
    let run: BTreeSet<&str> = cases
        .iter()
        .map(|case| case.guest.as_deref().unwrap_or(&case.name))
        .collect();
    for (name, comment) in all() {
        assert!(comment.ends_with('.') && comment.len() < 120, "{name}: {comment:?}");
        assert!(
            run.contains(&*name) || OF_SCENARIOS.contains(&&*name),
            "no case runs {name}"
        );
        assert!(!component(&name).is_empty());
    }
}

#[test]
fn every_threat_has_a_case_or_a_test_and_every_case_a_threat() {
    let (cases, threats) = (cases(), threats());
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "a name is taken twice");
    let numbers: Vec<_> = threats.iter().map(|threat| threat.number).collect();
    assert_eq!(numbers, (1..=27).collect::<Vec<_>>());
    for case in &cases {
        assert!(numbers.contains(&case.threat), "{} belongs to no threat", case.name);
    }
    for threat in &threats {
        let proven =
            cases.iter().any(|case| case.threat == threat.number) || !threat.tests.is_empty() || threat.number == 22;
        assert!(proven, "nothing proves threat {}", threat.number);
    }
}

#[test]
fn the_document_has_every_threat_with_a_figure_and_every_defense_that_was_switched_off() {
    let (cases, threats) = (cases(), threats());
    let text = std::fs::read_to_string(workspace().join(FILE)).unwrap();
    let table = &text[Part::Threats.find(&text)];
    for threat in &threats {
        let start = fixed(threat, &cases);
        let line = table.lines().find_map(|line| line.strip_prefix(&*start));
        let figure =
            line.unwrap_or_else(|| panic!("{FILE} lacks this line; run `cargo xtask attack --write`: {start}"));
        assert!(
            figure.contains(|c: char| c.is_ascii_digit()),
            "threat {} has no figure",
            threat.number
        );
    }
    assert_eq!(
        table.lines().filter(|line| line.starts_with("| ")).count(),
        threats.len() + 1
    );

    let table = &text[Part::Weakened.find(&text)];
    for case in &cases {
        if let Some(defense) = &case.weakened {
            let start = format!("| `{defense}` | `{}` | ", case.name);
            assert!(
                table.contains(&start),
                "{FILE} lacks this line; run `cargo xtask attack --weakened --write`: {start}"
            );
        }
    }
}

#[test]
fn a_few_attacks_of_each_kind_end_as_they_should() {
    let program = Program {
        binary: env!("CARGO_BIN_EXE_agenthost-cli").into(),
        is_optimized: false,
        without: None,
        soaks: false,
    };
    let cases = cases();
    let fast: Vec<_> = cases.iter().filter(|case| case.fast).collect();
    assert!(fast.len() >= 8, "{}", fast.len());
    for case in fast {
        let measured = program.attack(case);
        assert!(measured.misses.is_empty(), "{}: {:#?}", case.name, measured);
    }
}
