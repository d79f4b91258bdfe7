//! `cargo xtask attack`: runs the attack corpus, and writes what it measured into `docs/security.md`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a tool of this repository that fails by panicking"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use agenthost_tests::attack::cases::{Case, Threat, cases, threats};
use agenthost_tests::attack::component::{all, component};
use agenthost_tests::attack::report::{self, FILE, Part, Row};
use agenthost_tests::attack::run::{Measured, Program, bytes};
use agenthost_tests::guests::workspace;

const HELP: &str = "\
Run the attack corpus against the command line

Usage: cargo xtask attack [OPTIONS] [CASE]...

  [CASE]...   Take only cases whose names contain one of these words

  --soak      Draw 10,000,000 texts and 100,000 cancels at random, which takes about an hour
  --release   Attack a release build
  --binary F  Attack this program instead of one that is built here
  --export D  Write the components of the cases into this directory instead of running them
  --weakened  Switch defenses off one by one, and expect the matching case to fail
  --write     Write the figures into docs/security.md

F and D are relative to the root of the repository.
";

#[derive(Default)]
struct Options {
    soak: bool,
    release: bool,
    binary: Option<PathBuf>,
    export: Option<PathBuf>,
    weakened: bool,
    write: bool,
    words: Vec<String>,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut options = Options::default();
    if args.next().as_deref() != Some("attack") {
        eprint!("{HELP}");
        return ExitCode::from(2);
    }
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--binary" => options.binary = args.next().map(PathBuf::from),
            "--soak" => options.soak = true,
            "--release" => options.release = true,
            "--export" => options.export = args.next().map(PathBuf::from),
            "--weakened" => options.weakened = true,
            "--write" => options.write = true,
            word if !word.starts_with('-') => options.words.push(arg),
            _ => {
                eprint!("{HELP}");
                return ExitCode::from(2);
            }
        }
    }
    if let Some(dir) = &options.export {
        export(&workspace().join(dir), &options.words);
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    let good = match options.weakened {
        true => weakened(&options),
        false => attack(&options),
    };
    println!("{:.0} s", start.elapsed().as_secs_f64());
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Builds the command line unless it is built, and returns its path.
fn build(options: &Options, features: &[&str], dir: &str) -> PathBuf {
    if let Some(binary) = &options.binary {
        return workspace().join(binary);
    }
    if !options.release && features.is_empty() {
        return PathBuf::from(env!("CARGO_BIN_EXE_agenthost-cli"));
    }
    let target = workspace().join(dir);
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "build",
            "--quiet",
            "--package",
            "agenthost-cli",
            "--bin",
            "agenthost",
            "--target-dir",
        ])
        .arg(&target);
    if options.release {
        cargo.arg("--release");
    }
    for feature in features {
        cargo.args(["--features", feature]);
    }
    let status = cargo.current_dir(workspace()).status().expect("cargo runs");
    assert!(status.success(), "cargo cannot build the command line; see above");
    target
        .join(if options.release { "release" } else { "debug" })
        .join("agenthost")
}

/// Whether a case is one of those that are asked for.
fn is_wanted(case: &Case, words: &[String]) -> bool {
    words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()))
}

/// Writes the components, to look at them or to run them by hand.
fn export(dir: &Path, words: &[String]) {
    std::fs::create_dir_all(dir).unwrap();
    for case in cases().iter().filter(|case| is_wanted(case, words)) {
        if let Some(bytes) = bytes(case) {
            std::fs::write(dir.join(&case.name).with_extension("wasm"), bytes).unwrap();
        }
    }
    for (guest, _) in all()
        .iter()
        .filter(|(guest, _)| words.is_empty() || words.contains(guest))
    {
        std::fs::write(dir.join(guest).with_extension("wasm"), component(guest)).unwrap();
    }
}

fn one(program: &Program, case: &Case) -> Measured {
    let start = Instant::now();
    let measured = program.attack(case);
    let verdict = if measured.misses.is_empty() { "ok  " } else { "MISS" };
    let figure = |name: &str| measured.figures.get(name).copied().unwrap_or(0.0);
    println!(
        "{verdict} {:<26} {:6.2} s {:5} MiB {:8.0} KiB  {}",
        case.name,
        start.elapsed().as_secs_f64(),
        figure("memory"),
        figure("disk"),
        measured.ended
    );
    for miss in &measured.misses {
        println!("       {miss}");
    }
    measured
}

fn attack(options: &Options) -> bool {
    let binary = build(options, &[], "target");
    let program = Program {
        binary,
        is_optimized: options.release,
        without: None,
        soaks: options.soak,
    };
    let cases = cases();
    let mut rows: BTreeMap<u32, Row> = BTreeMap::new();
    let mut misses = 0;
    for case in &cases {
        if is_wanted(case, &options.words) {
            let measured = one(&program, case);
            misses += usize::from(!measured.misses.is_empty());
            rows.entry(case.threat).or_default().add(&measured);
        }
    }
    if !options.words.is_empty() {
        println!("{misses} misses");
        return misses == 0;
    }
    let threats = threats();
    // No process of any case may listen.
    let listening = rows
        .values()
        .filter_map(|row| row.measured("listening"))
        .fold(0.0, f64::max);
    let processes: usize = rows.values().map(|row| row.cases).sum();
    let server = rows.entry(22).or_default();
    server.figure("listening", listening);
    server.figure("processes", processes as f64);
    misses += test(&threats, &mut rows);
    let mut written = Vec::new();
    for threat in threats {
        match rows.entry(threat.number).or_default().words(&threat) {
            Ok(words) => written.push((threat, words)),
            Err(missing) => {
                println!("MISS threat {}: {missing}", threat.number);
                misses += 1;
            }
        }
    }
    let table = report::threats(&written, &cases, &how(options));
    println!("{table}{misses} misses");
    if options.write && misses == 0 {
        write(Part::Threats, &table);
    }
    misses == 0
}

/// Runs the tests that stand beside the cases, and gives the number of those that did not pass.
fn test(threats: &[Threat], rows: &mut BTreeMap<u32, Row>) -> usize {
    let figures = tempfile::NamedTempFile::new().unwrap();
    let mut misses = 0;
    let named: Vec<_> = threats
        .iter()
        .flat_map(|threat| threat.tests.iter().map(|test| (threat.number, test)))
        .collect();
    let mut cargo = Command::new("cargo");
    // The selection of the documented command, so that nothing is built twice.
    cargo.args([
        "test",
        "--quiet",
        "--workspace",
        "--test",
        "all",
        "--",
        "--exact",
        "--format=pretty",
    ]);
    cargo
        .args(named.iter().map(|(_, test)| test))
        .env("AGENTHOST_FIGURES", figures.path());
    let cargo = cargo.current_dir(workspace()).stderr(std::process::Stdio::inherit());
    let output = cargo.output().expect("cargo runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    for (row, test) in named {
        let passed = stdout.contains(&format!("test {test} ... ok"));
        println!("{} test {test}", if passed { "ok  " } else { "MISS" });
        misses += usize::from(!passed);
        rows.entry(row).or_default().tests += usize::from(passed);
    }
    for line in std::fs::read_to_string(figures.path()).unwrap().lines() {
        let [row, name, value]: [&str; 3] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        rows.entry(row.parse().unwrap())
            .or_default()
            .figure(name, value.parse().unwrap());
    }
    misses
}

/// Runs the case of each defense with it and without it; it has to fail without.
fn weakened(options: &Options) -> bool {
    let binary = build(options, &["weaken"], "target/weakened");
    let mut good = true;
    let mut lines = Vec::new();
    for case in cases() {
        let Some(defense) = case.weakened.as_ref().filter(|_| is_wanted(&case, &options.words)) else {
            continue;
        };
        let with = one(
            &Program {
                binary: binary.clone(),
                is_optimized: options.release,
                without: None,
                soaks: false,
            },
            &case,
        );
        let without = one(
            &Program {
                binary: binary.clone(),
                is_optimized: options.release,
                without: Some(defense.clone()),
                soaks: false,
            },
            &case,
        );
        let noticed = with.misses.is_empty() && !without.misses.is_empty();
        println!("{} without {defense}", if noticed { "ok  " } else { "MISS" });
        good &= noticed;
        // Only the first line of a message, and nothing that would end a cell.
        let short = |text: &str| {
            text.lines()
                .next()
                .unwrap_or_default()
                .replace('|', "/")
                .chars()
                .take(120)
                .collect::<String>()
        };
        let missed = without
            .misses
            .iter()
            .map(|miss| short(miss))
            .take(2)
            .collect::<Vec<_>>();
        lines.push([
            defense.clone(),
            case.name.clone(),
            short(&with.ended),
            missed.join("; "),
        ]);
    }
    let table = report::weakened(&lines, &how(options));
    println!("{table}");
    if options.write && good {
        write(Part::Weakened, &table);
    }
    good
}

/// When and how it was measured.
fn how(options: &Options) -> String {
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().unwrap();
    let build = if options.release { "release" } else { "debug" };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "Measured on {} with a {build} build on {cores} cores.",
        String::from_utf8_lossy(&date.stdout).trim()
    )
}

fn write(part: Part, table: &str) {
    let path = workspace().join(FILE);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.replace_range(part.find(&text), table);
    std::fs::write(&path, text).unwrap();
}
