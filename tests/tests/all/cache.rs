//! Compiled plugins on disk: found again, never believed when they changed, never kept where others can write.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use agenthost_tests::env::{Output, TestEnv};

use crate::{guest, machine};

fn run(machine: &TestEnv) -> Output {
    let output = machine.run(["run", &guest("misbehaves"), "-i", "\"ok\""]);
    assert_eq!(output.json(0), "fine");
    output
}

/// The compiled plugins, each with a value that changes when it is written again.
fn entries(machine: &TestEnv) -> Vec<(PathBuf, (u64, i64, i64))> {
    let Ok(dir) = fs::read_dir(machine.compiled()) else {
        return Vec::new();
    };
    let paths = dir
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "bin"));
    paths.map(written).collect()
}

/// Its inode alone would not do: the number of a file that is gone is given out again.
fn written(path: PathBuf) -> (PathBuf, (u64, i64, i64)) {
    let meta = fs::metadata(&path).unwrap();
    (path, (meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

#[test]
fn a_second_run_does_not_compile() {
    let machine = machine();
    let first = run(&machine);
    let known = entries(&machine);
    assert_eq!(known.len(), 1, "{first}");
    let meta = fs::metadata(&known[0].0).unwrap();
    assert_eq!(meta.mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(machine.compiled()).unwrap().mode() & 0o777, 0o700);
    let second = run(&machine);
    assert_eq!(entries(&machine), known, "written once");
    assert_eq!(second.stderr.lines().count(), 1, "{second}");
    // Another plugin has an entry of its own.
    assert_eq!(machine.run(["run", &guest("fails"), "-i", "\"cancelled\""]).code, 1);
    assert_eq!(entries(&machine).len(), 2);
}

#[test]
fn a_tampered_entry_is_compiled_anew_and_not_loaded() {
    let machine = machine();
    run(&machine);
    let (path, written) = entries(&machine).remove(0);
    let good = fs::read(&path).unwrap();
    for at in [0, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let output = run(&machine);
        assert!(
            output.stderr.contains("cached plugin was changed and is not loaded"),
            "byte {at}: {output}"
        );
        assert_eq!(fs::read(&path).unwrap(), good, "byte {at}: the good one is back");
        run(&machine);
    }
    assert_ne!(entries(&machine)[0].1, written);
    // Native code from another source, as large as the real one.
    fs::write(&path, vec![0x90; good.len()]).unwrap();
    run(&machine);
    fs::write(&path, b"").unwrap();
    run(&machine);
    assert_eq!(fs::read(&path).unwrap(), good);
}

#[test]
fn a_directory_or_entry_that_others_can_use_is_not_used() {
    let machine = machine();
    run(&machine);
    let (path, _) = entries(&machine).remove(0);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let output = run(&machine);
    assert!(output.stderr.contains("cached plugin is not loaded"), "{output}");

    fs::remove_file(&path).unwrap();
    fs::set_permissions(machine.compiled(), fs::Permissions::from_mode(0o777)).unwrap();
    let output = run(&machine);
    assert!(output.stderr.contains("compiled plugins are not cached"), "{output}");
    assert_eq!(entries(&machine), [], "nothing is written there");
}

#[test]
fn a_cache_that_cannot_be_used_costs_time_and_no_run() {
    let machine = machine();
    // A file where the directory should be.
    fs::create_dir_all(machine.compiled().parent().unwrap()).unwrap();
    fs::write(machine.compiled(), "in the way").unwrap();
    run(&machine);
    // A link to elsewhere.
    fs::remove_file(machine.compiled()).unwrap();
    fs::create_dir(machine.cwd().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(machine.cwd().join("elsewhere"), machine.compiled()).unwrap();
    run(&machine);
    assert_eq!(fs::read_dir(machine.cwd().join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn runs_that_start_together_share_one_entry() {
    let machine = machine();
    let args = ["run", &guest("misbehaves"), "-i", "\"ok\""];
    let runs: Vec<_> = (0..4).map(|_| machine.start(args, None)).collect();
    for run in runs {
        let output = run.finish();
        assert_eq!(output.json(0), "fine");
        assert!(!output.stderr.contains("WARN"), "{output}");
    }
    assert_eq!(entries(&machine).len(), 1);
    let names = fs::read_dir(machine.compiled())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let leftovers: Vec<_> = names.filter(|name| name.starts_with('.')).collect();
    assert_eq!(leftovers, Vec::<String>::new());
}
