//! The same source gives the same bytes in any directory, and a release records the source that it was built from.

use std::path::{Path, PathBuf};
use std::process::Command;

use agenthost::plugin::{Digest, PluginInfo, build};
use agenthost_tests::dummy;
use agenthost_tests::env::TestEnv;
use agenthost_tests::optional;
use serde_json::{Value, json};

use super::new::projects;
use crate::machine;

/// Kept from one run of the tests to the next, so that third-party crates are built once in each.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs git in `dir`, without any configuration.
fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn has_git() -> bool {
    Command::new("git")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

fn copy(from: &Path, to: &Path) {
    let to_parent = to.parent().unwrap();
    std::fs::create_dir_all(to_parent).unwrap();
    let status = Command::new("cp").arg("-R").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// Types the given command at the project in `dir`, with the given cargo directories; returns stdout and stderr, and
/// the exit code.
fn typed(machine: &TestEnv, dir: &Path, target: &Path, home: &Path, command: &str) -> (String, i32) {
    let (output, _) = machine.shell(
        dir,
        &format!("export CARGO_TARGET_DIR={target:?} CARGO_HOME={home:?}; {command}"),
        0,
    );
    (output.stdout, output.code)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn the_same_source_gives_the_same_bytes_wherever_it_lies() {
    let machine = projects();
    build::install_target(&machine.cwd()).unwrap();
    let made = machine.run(["new", "ballad"]);
    assert_eq!(made.code, 0, "{made}");
    let first = machine.cwd().join("ballad");
    let second = machine.cwd().join("further/down/below/verse");
    copy(&first, &second);

    // Another name for the directory of cargo: what is in it need not be fetched again.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| std::env::home_dir().unwrap().join(".cargo"));
    let (target, other_target, other_home) = (kept("new"), kept("provenance"), kept("provenance-cargo"));
    let _ = std::fs::remove_file(&other_home);
    std::os::unix::fs::symlink(&home, &other_home).unwrap();
    let build_first = |command: &str| typed(&machine, &first, &target, &home, command);
    let build_second = |command: &str| {
        typed(
            &machine,
            &second,
            &other_target,
            &other_home,
            &format!("LC_ALL=C {command}"),
        )
    };
    // Of the two directories the lock files must be the same.
    let (said, code) = build_first("agenthost build");
    assert_eq!(code, 0, "{said}");
    std::fs::copy(first.join("Cargo.lock"), second.join("Cargo.lock")).unwrap();
    let (said, code) = build_second("agenthost build");
    assert_eq!(code, 0, "{said}");
    let read = |target: &Path| std::fs::read(target.join("agenthost/ballad.wasm")).unwrap();
    let bytes = read(&target);
    assert!(
        bytes == read(&other_target),
        "{} and {}",
        Digest::of(&bytes),
        Digest::of(&read(&other_target))
    );
    for dir in [&machine.cwd(), &home, &target, &other_home, &other_target] {
        let dir = dir.display().to_string();
        assert!(!contains(&bytes, &dir), "{dir}");
    }
    assert!(contains(&bytes, "/cargo/registry/src/"), "a panic names where it was");
    assert_eq!(
        PluginInfo::read(&bytes).unwrap().provenance,
        None,
        "only a release has it"
    );

    // A release, in no repository: of the tools.
    let release = second.join("release.wasm");
    let (said, code) = build_second("agenthost build --release && agenthost build --check ../../../ballad.wasm");
    assert_eq!(code, 2, "{said}");
    std::fs::copy(other_target.join("agenthost/ballad.wasm"), &release).unwrap();
    let provenance = PluginInfo::open(&release).unwrap().provenance.unwrap();
    assert!(
        provenance.rustc.starts_with("rustc 1.") && provenance.cargo.starts_with("cargo 1."),
        "{provenance:?}"
    );
    assert_eq!(provenance.target, build::TARGET);
    assert_eq!(provenance.source, None);
    let lock = std::fs::read(first.join("Cargo.lock")).unwrap();
    assert_eq!(provenance.lock, Some(Digest::of(&lock)));
    let (said, code) = build_first(&format!("agenthost build --check {release:?}"));
    assert_eq!(
        (said.as_str(), code),
        (
            &*format!("the same: {}\n", PluginInfo::open(&release).unwrap().digest),
            0
        )
    );

    // Other text, other bytes.
    let lib = first.join("src/lib.rs");
    let text = std::fs::read_to_string(&lib).unwrap();
    let changed = text.replace("Sum the text up in at most", "Sum the text up in no more than");
    assert_ne!(text, changed);
    std::fs::write(&lib, changed).unwrap();
    // Leftovers of an earlier build in the target directory are not trusted, however old the source claims to be.
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = std::fs::File::options().write(true).open(&lib).unwrap();
    file.set_modified(long_ago).unwrap();
    let (said, code) = build_first(&format!("agenthost build --check {release:?}"));
    assert!(
        code == 1 && said.starts_with("not the same\n") && said.contains("  the code differs\n"),
        "{said}"
    );
    assert!(!said.contains("tools:"), "{said}");
    std::fs::write(&lib, text).unwrap();

    if !has_git() {
        return optional::skipped("git", "it is not installed");
    }
    optional::runs("git");
    in_a_repository_the_revision_is_recorded(&machine, &first, &target, &home);
}

/// The project becomes a directory of a repository.
fn in_a_repository_the_revision_is_recorded(machine: &TestEnv, project: &Path, target: &Path, home: &Path) {
    let top = project.parent().unwrap();
    // Commands that a repository configures for git are not run.
    let trap = machine.write("trap", "#!/bin/sh\ntouch \"$0.sprung\"\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&trap, mode).unwrap();
    git(top, &["init", "--quiet"]);
    git(top, &["add", "ballad"]);
    git(top, &["commit", "--quiet", "-m", "one"]);
    git(top, &["config", "core.fsmonitor", &trap.display().to_string()]);
    let head = git(top, &["-c", "core.fsmonitor=false", "rev-parse", "HEAD"]);
    let inspected = || -> (Value, String) {
        let (said, code) = typed(machine, project, target, home, "agenthost build --release --json");
        assert_eq!(code, 0, "{said}");
        let file = target.join("agenthost/ballad.wasm").display().to_string();
        let document = machine.run(["inspect", &file, "--json"]).json(0);
        (document["provenance"].clone(), machine.run(["inspect", &file]).stdout)
    };
    let (provenance, page) = inspected();
    assert_eq!(
        provenance["source"],
        json!({"revision": head, "path": "ballad", "dirty": false})
    );
    for line in [
        &format!("built with {}", provenance["rustc"].as_str().unwrap()),
        &format!("revision   {head}, ballad\n"),
        "is its builder's word until `agenthost build --check FILE`",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    let clean = std::fs::read(target.join("agenthost/ballad.wasm")).unwrap();
    assert!(!contains(&clean, &machine.cwd().display().to_string()));

    // The build does not read files beside the crate.
    std::fs::write(top.join("beside.txt"), "x").unwrap();
    assert_eq!(inspected().0["source"]["dirty"], false);
    std::fs::write(project.join("vendor/agenthost-sdk/NOTES"), "x").unwrap();
    let (provenance, page) = inspected();
    assert_eq!(
        provenance["source"],
        json!({"revision": head, "path": "ballad", "dirty": true})
    );
    assert!(
        page.contains(&format!("revision   {head}, ballad, with changes\n")),
        "{page}"
    );
    let dirty = machine.write("clean.wasm", clean);
    let (said, code) = typed(
        machine,
        project,
        target,
        home,
        &format!("agenthost build --check {dirty:?} --json"),
    );
    let json = said
        .lines()
        .find_map(|line| serde_json::from_str::<Value>(line).ok())
        .unwrap();
    assert_eq!(code, 1, "{said}");
    assert_eq!(json["same"], false);
    assert_eq!(
        json["differs"],
        json!([
            format!("revision: it says {head}, ballad; this is {head}, ballad, with changes"),
            "the section `agenthost:provenance` differs",
        ])
    );
    assert!(!machine.cwd().join("trap.sprung").exists());
}

const WORLD: &str = "package demo:claims@0.1.0;
interface task { run: async func(input: string) -> string; }
world claims { export task; }";

/// A component with these custom sections at its end.
fn with_sections(records: &[&str]) -> Vec<u8> {
    let mut bytes = dummy::component(&[WORLD]);
    for record in records {
        let name = "agenthost:provenance";
        // Lengths are in LEB128: of two bytes here.
        let length = |length: usize| [(length & 0x7f | 0x80) as u8, (length >> 7) as u8];
        bytes.push(0);
        bytes.extend(length(1 + name.len() + record.len()));
        bytes.push(name.len() as u8);
        bytes.extend(name.bytes());
        bytes.extend(record.bytes());
    }
    bytes
}

#[test]
fn what_a_file_says_of_itself_is_a_claim() {
    let machine = machine();
    let page = |records: &[&str]| {
        let file = machine.write("claims.wasm", with_sections(records));
        let output = machine.run(["inspect", &file.display().to_string()]);
        assert_eq!(output.code, 0, "{output}");
        output.stdout
    };
    let record = json!({
        "format": 1, "rustc": "rustc 9.9.9", "host": "h", "cargo": "cargo 9.9.9", "agenthost": "9.9.9",
        "target": "wasm32-wasip2", "profile": "release",
        "source": {"revision": "0123456789".repeat(4), "path": "", "dirty": false},
    });
    let foreign = page(&[&record.to_string()]);
    for line in [
        "built with rustc 9.9.9 on h, cargo 9.9.9, agenthost 9.9.9\n",
        "revision   0123456789012345678901234567890123456789\n",
        "`built with` and `revision` is its builder's word until",
    ] {
        assert!(foreign.contains(line), "{line}: {foreign}");
    }
    assert!(!foreign.contains("\ndoubt"), "{foreign}");

    let forged = record.to_string().replace("rustc 9.9.9", "rustc 1\\nrevision   none");
    for (records, doubt) in [
        (
            &[&*record.to_string(), &record.to_string()][..],
            "provenance is embedded more than once",
        ),
        (&["{"], "embedded provenance cannot be read: EOF"),
        (
            &["{\"format\":2}"],
            "embedded provenance cannot be read: it has format 2, and this version reads 1",
        ),
        (
            &[&forged],
            "embedded provenance cannot be read: `rustc 1\\nrevision   none` is not a plain line",
        ),
    ] {
        let page = page(records);
        assert!(page.contains("revision   not recorded\n"), "{page}");
        assert!(page.contains(&format!("doubt      {doubt}")), "{doubt}: {page}");
        assert!(!page.contains("built with"), "{page}");
    }
}
