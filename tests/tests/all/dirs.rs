//! Granted directories: what a plugin sees with one, and that it cannot leave it.

use std::os::unix::fs::symlink;

use agenthost::LoadOptions;
use agenthost::config::DirGrant;
use agenthost_tests::env::{Output, TestEnv};
use serde_json::{Value, json};

use crate::{guest, machine, run_json};

const SECRET: &str = "canary-outside-of-the-directory";

/// A machine with `data/file` and `data/deep/file` to be read, `more/file`, and a secret beside them.
fn with_files() -> TestEnv {
    let machine = machine();
    machine.write("data/file", "inside");
    machine.write("data/deep/file", "deep inside");
    machine.write("more/file", "more");
    machine.write("secret/file", SECRET);
    machine.write("reads-files.wasm", std::fs::read(guest("reads-files")).unwrap());
    machine
}

/// Runs `reads-files` on `path` with these `--dir`.
fn read(machine: &TestEnv, dirs: &[&str], path: &str) -> Output {
    access(machine, dirs, &json!({"path": path}), &[])
}

fn access(machine: &TestEnv, dirs: &[&str], input: &Value, more: &[&str]) -> Output {
    let dirs = dirs.iter().flat_map(|dir| ["--dir", dir]);
    let args: Vec<_> = dirs.chain(more.iter().copied()).collect();
    machine.run(run_json(&guest("reads-files"), input, &args))
}

/// The guest's own error.
#[track_caller]
fn refused(output: &Output) -> String {
    assert!(!output.stdout.contains(SECRET), "{output}");
    let document = output.json(1);
    document["outcome"]["failure"]["error"].as_str().unwrap().to_owned()
}

/// A configuration with the path of the sub-agent, followed by `more`.
fn sub_agent(more: &str) -> String {
    format!("[sub-agents]\n\"guests:reads-files\" = \"reads-files.wasm\"\n{more}")
}

#[test]
fn a_plain_file_is_read_in_each_of_two_directories() {
    let machine = with_files();
    let dirs = ["data::/data", "./more::/other/place"];
    for (path, text) in [
        ("/data/file", "inside"),
        ("/data/deep/file", "deep inside"),
        ("/data/deep/../file", "inside"),
        ("data/./file", "inside"),
        ("/other/place/file", "more"),
    ] {
        assert_eq!(read(&machine, &dirs, path).json(0)["outcome"]["ok"], text, "{path}");
    }
    assert!(refused(&read(&machine, &dirs, "/other/file")).contains("No such file"));
    symlink("deep/file", machine.cwd().join("data/link")).unwrap();
    let within = read(&machine, &dirs, "/data/link").json(0);
    assert_eq!(
        within["outcome"]["ok"], "deep inside",
        "a link that stays inside is followed"
    );
}

#[test]
fn no_path_leads_out() {
    let machine = with_files();
    let (data, secret) = (machine.cwd().join("data"), machine.cwd().join("secret"));
    symlink("../secret", data.join("relative")).unwrap();
    symlink("../secret/file", data.join("relative-file")).unwrap();
    symlink(&secret, data.join("absolute")).unwrap();
    symlink(secret.join("file"), data.join("absolute-file")).unwrap();
    symlink("..", data.join("deep/up")).unwrap();
    symlink("deep/up/up-and-out", data.join("chain")).unwrap();
    symlink("../secret", data.join("up-and-out")).unwrap();
    symlink("/proc/self/root", data.join("root")).unwrap();
    let absolute = secret.join("file").display().to_string();
    let mut tried = 0;
    for path in [
        "/data/../secret/file",
        "/data/deep/../../secret/file",
        "/data/x/../../secret/file",
        "/data/./deep/.././../secret/file",
        "/data//..//secret/file",
        "../secret/file",
        "/secret/file",
        "/data/relative/file",
        "/data/relative-file",
        "/data/absolute/file",
        "/data/absolute-file",
        "/data/deep/up/relative/file",
        "/data/deep/up/../secret/file",
        "/data/chain/file",
        "/data/relative/../secret/file",
        &absolute,
        &format!("/data{absolute}"),
        &format!("/data/root{absolute}"),
        "/etc/hostname",
        "/data/file/../../secret/file",
        "/",
        "",
    ] {
        refused(&read(&machine, &["data::/data"], path));
        tried += 1;
    }
    // The same where the guest's root is the directory.
    for path in [
        "/../secret/file",
        "/relative/file",
        "/absolute-file",
        "../../secret/file",
    ] {
        refused(&read(&machine, &["data::/"], path));
        tried += 1;
    }
    agenthost_tests::figure(18, "paths", tried);
}

#[test]
fn writing_takes_rw_and_stays_inside_too() {
    let machine = with_files();
    let write = |dir: &str, path: &str| access(&machine, &[dir], &json!({"path": path, "write-text": "new"}), &[]);
    let text = |path: &str| std::fs::read_to_string(machine.cwd().join(path)).ok();
    assert!(refused(&write("data::/data", "/data/file")).contains("not permitted"));
    assert!(refused(&write("data::/data", "/data/new")).contains("not permitted"));
    assert_eq!((text("data/file").as_deref(), text("data/new")), (Some("inside"), None));

    for path in ["/data/file", "/data/new"] {
        assert_eq!(write("data::/data:rw", path).json(0)["outcome"]["ok"], "new");
    }
    assert_eq!(
        (text("data/file").as_deref(), text("data/new").as_deref()),
        (Some("new"), Some("new"))
    );

    symlink("../secret/file", machine.cwd().join("data/link")).unwrap();
    symlink("../secret/new", machine.cwd().join("data/new-link")).unwrap();
    for path in ["/data/link", "/data/new-link", "/data/../secret/file", "/data/../new"] {
        refused(&write("data::/data:rw", path));
    }
    assert_eq!(
        (text("secret/file").as_deref(), text("secret/new"), text("new")),
        (Some(SECRET), None, None)
    );
}

#[test]
fn a_sub_agent_has_what_its_own_grant_says_and_no_more() {
    let machine = with_files();
    let views = |grants: &str, path: &str, code: i32| {
        machine.write("agenthost.toml", sub_agent(grants));
        let args = ["--dir", "data::/data"];
        let output = machine.run(run_json(&guest("delegates-reads"), &json!(path), &args));
        output.json(code)
    };
    let denied = views("", "/data/file", 4);
    let message = denied["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("sub-agent guests:reads-files@0.1.0") && message.contains("wasi:filesystem/types@0.2"),
        "{denied}"
    );
    let own = "[grants.\"guests:reads-files\"]\ndirs = [\"more::/more\"]\n";
    let root_sees = views(own, "/data/file", 0)["outcome"]["ok"].clone();
    assert_eq!(root_sees["above"], json!({"ok": "inside"}));
    assert!(
        root_sees["below"]["err"].as_str().unwrap().contains("No such file"),
        "{root_sees}"
    );
    let below_sees = views(own, "/more/file", 0)["outcome"]["ok"].clone();
    assert_eq!(below_sees["below"], json!({"ok": "more"}));
    assert!(
        below_sees["above"]["err"].as_str().unwrap().contains("No such file"),
        "{below_sees}"
    );
}

#[test]
fn without_a_directory_the_import_is_refused_and_the_hint_names_both_ways() {
    let output = with_files().run(["run", &guest("reads-files"), "-i", "{\"path\": \"/data/file\"}"]);
    let said = output.error(4);
    for part in [
        "--dir HOST::GUEST",
        "[grants.\"guests:reads-files\"]",
        "wasi:filesystem/preopens@0.2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let sockets = with_files().run([
        "run",
        &guest("connects"),
        "--dir",
        "data::/data",
        "-i",
        "\"127.0.0.1:1\"",
    ]);
    let said = sockets.error(4);
    assert!(
        said.contains("wasi:sockets/tcp@0.2") && !said.contains("wasi:filesystem"),
        "{said}"
    );
}

#[test]
fn a_wrong_directory_is_named_before_anything_runs() {
    let machine = with_files();
    for (dirs, says) in [
        (vec!["data"], "--dir: `data` is not a directory; write HOST::GUEST"),
        (vec!["data::data"], "the guest's path is `data`"),
        (vec!["data::/a/../b"], "the guest's path is `/a/../b`"),
        (vec!["none::/data"], "--dir none::/data: "),
        (vec!["data/file::/data"], "data/file is not a directory"),
        (
            vec!["data::/data", "more::/data:rw"],
            "two directories are called /data",
        ),
    ] {
        let reads = guest("reads-files");
        let mut args = vec!["run", &reads, "-i", "{\"path\": \"/x\"}"];
        args.extend(dirs.iter().flat_map(|dir| ["--dir", dir]));
        let output = machine.run(args);
        assert!(output.error(2).contains(says), "{says}: {output}");
    }
    machine.write(
        "agenthost.toml",
        "[grants.\"guests:reads-files\"]\ndirs = [\"none::/data\"]",
    );
    let output = machine.run(["run", "reads-files.wasm", "-i", "{\"path\": \"/x\"}"]);
    let said = machine.redact(output.error(2));
    assert!(
        said.contains("guests:reads-files is granted [work]/none as /data, which cannot be opened: No such file"),
        "{said}"
    );
}

#[test]
fn a_projects_grant_outside_its_folder_needs_trust() {
    let machine = machine();
    machine.write("secret/file", SECRET);
    machine.write(
        "repo/agenthost.toml",
        "[grants.\"guests:reads-files\"]\ndirs = [\"../secret::/data\"]",
    );
    machine.write("repo/reads-files.wasm", std::fs::read(guest("reads-files")).unwrap());
    let (reads, input) = ("repo/reads-files.wasm", "{\"path\": \"/data/file\"}");
    let args = ["run", reads, "-q", "-i", input, "--config", "repo/agenthost.toml"];
    let output = machine.run(args);
    let said = machine.redact(output.error(4));
    assert!(
        said.contains("repo/agenthost.toml:2: guests:reads-files could read [work]/secret, which lies outside"),
        "{said}"
    );
    assert!(
        said.contains("hint: Read repo/agenthost.toml, then run `agenthost trust repo/agenthost.toml`"),
        "{said}"
    );
    let trusted = machine.run(["trust", "repo/agenthost.toml"]);
    assert_eq!(trusted.code, 0, "{trusted}");
    assert!(
        machine
            .redact(&trusted.stdout)
            .contains("  guests:reads-files: may read [work]/secret\n"),
        "{trusted}"
    );
    assert_eq!(machine.run(args).json(0), SECRET);
    // A link that the repository carries is judged by where it leads.
    symlink("../secret", machine.cwd().join("repo/link")).unwrap();
    machine.write(
        "repo/agenthost.toml",
        "[grants.\"guests:reads-files\"]\ndirs = [\"link::/data:rw\"]",
    );
    assert!(machine.run(args).error(4).contains("could read and write"));
}

#[test]
fn what_a_guest_reads_is_paid_in_fuel_to_the_unit_and_bounded_by_its_limits() {
    let machine = with_files();
    let fuel = |times: u32, limit: &str, code: i32| {
        let input = json!({"path": "/data/file", "times": times});
        let output = access(&machine, &["data::/data"], &input, &["--fuel", limit]);
        output.json(code)["spent"]["fuel"].as_u64().unwrap()
    };
    let (hundred, two, three) = (fuel(100, "1G", 0), fuel(200, "1G", 0), fuel(300, "1G", 0));
    assert_eq!(two - hundred, three - two, "waiting for the disk loses no fuel");
    assert!(two - hundred > 100_000, "{hundred} {two}");
    assert_eq!(fuel(300, &hundred.to_string(), 3), hundred);

    let pipe = machine.cwd().join("data/pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    // Nothing is waited for.
    let pipe = access(&machine, &["data::/data"], &json!({"path": "/data/pipe"}), &[]);
    assert!(refused(&pipe).contains("not permitted"), "{pipe}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_to_what_was_opened_and_a_link_put_in_its_place_is_refused() {
    let machine = with_files();
    let host = machine.host();
    let dir = DirGrant::parse(&machine.surroundings(), "data::/data").unwrap();
    let options = LoadOptions::new().dir(dir);
    let plugin = host.load_with(&*guest("reads-files"), options).await.unwrap();
    let spawn = |input: &Value| host.run(&plugin, input).start();
    let text = spawn(&json!({"path": "/data/file"})).unwrap().outcome().await;
    assert_eq!(text.ok(), Some(&json!("inside")));
    std::fs::rename(machine.cwd().join("data"), machine.cwd().join("away")).unwrap();
    symlink("secret", machine.cwd().join("data")).unwrap();
    let error = spawn(&json!({"path": "/data/file"})).err().unwrap();
    assert!(error.message().contains("which cannot be opened"), "{error}");
}
