//! Obstacles that a project or a registry puts in the host's way: links out of the folder, pipes, and input without an
//! end.

use std::os::unix::fs::symlink;
use std::path::{Component, Path};
use std::process::{Command, Stdio};

use crate::{guest, machine};

fn pipe(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_journal_does_not_go_through_a_link() {
    let machine = machine().config("");
    let project = machine.cwd();
    let away = &project.parent().unwrap().join("outside");
    std::fs::create_dir(away).unwrap();
    let outside = away.join("file");
    std::fs::write(&outside, "precious").unwrap();
    let run = ["run", &guest("misbehaves"), "-i", "\"ok\""];
    symlink(away, project.join(".agenthost")).unwrap();
    let refused = machine.run(run);
    assert!(
        refused.error(4).contains("a journal does not go through a link"),
        "{refused}"
    );
    assert_eq!(std::fs::read_dir(away).unwrap().count(), 1, "nothing was written there");
    std::fs::remove_file(project.join(".agenthost")).unwrap();

    std::fs::create_dir(project.join(".agenthost")).unwrap();
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let link = project.join(".agenthost").join(name);
        symlink(&outside, &link).unwrap();
        let refused = machine.run(run);
        assert!(
            refused.error(4).contains("does not go through a link"),
            "{name}: {refused}"
        );
        assert_eq!(machine.run(["runs"]).code, 4, "{name}");
        std::fs::remove_file(link).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "precious");

    // A folder of the project that is a link, which its file names.
    symlink(away, project.join("logs")).unwrap();
    machine.write("agenthost.toml", "[journal]\nfile = \"logs/runs.db\"");
    let refused = machine.run(run);
    assert!(refused.error(2).contains("outside the folder"), "{refused}");
    std::fs::remove_file(project.join("logs")).unwrap();
    assert_eq!(machine.run(run).code, 0);
}

#[test]
fn a_registry_with_a_pipe_in_it_is_not_waited_for() {
    let machine = machine().config("[registries]\nevil = \"./reg\"");
    for name in ["0.1.0.wasm", "0.2.0.wasm.minisig"] {
        pipe(&machine.cwd().join("reg/evil/bomb").join(name));
    }
    std::fs::write(machine.cwd().join("reg/evil/bomb/0.2.0.wasm"), "x").unwrap();
    let output = machine.run(["add", "evil:bomb@0.1.0", "--accept"]);
    assert!(output.error(2).contains("not a regular file"), "{output}");
    // Its signature is the pipe.
    let output = machine.run(["add", "evil:bomb@0.2.0", "--accept"]);
    assert!([2, 4].contains(&output.code), "{output}");
}

#[test]
fn a_pipe_in_the_place_of_a_projects_file_is_not_waited_for() {
    for (name, args) in [
        ("plugin.wasm", ["inspect", "plugin.wasm"].as_slice()),
        ("agenthost.lock", &["list"]),
        ("vetted.toml", &["list"]),
        ("agenthost.toml", &["runs"]),
    ] {
        let machine = machine();
        pipe(&machine.cwd().join(name));
        // Any message is fine, as long as the command ends.
        let output = machine.run(args);
        assert_ne!(output.code, 70, "{name}: {output}");
    }
}

#[test]
fn no_name_of_a_plugin_leads_out_of_a_registry() {
    let long = "a".repeat(65);
    let pieces = [
        "..",
        ".",
        "",
        "/",
        "/etc",
        "a/b",
        "a/../b",
        "a\\b",
        "\0",
        "a\0b",
        "CON",
        "con",
        "nul",
        "aux.wasm",
        "a:b",
        "é",
        "A",
        "a b",
        "-a",
        "a-",
        "%2e%2e",
        "..%2f",
        "~",
        "$HOME",
        "a\n",
        "\u{202e}a",
        "a@b",
        "a.b",
        &long,
        "fine",
    ];
    let root = Path::new("/registry");
    let (mut tried, mut taken) = (0, Vec::new());
    for namespace in pieces {
        for name in pieces {
            tried += 1;
            let Ok(known) = format!("{namespace}:{name}").parse::<agenthost::registry::Name>() else {
                continue;
            };
            let path = root.join(known.namespace()).join(known.name());
            assert_eq!(path.components().count(), 4, "{path:?}");
            assert!(
                path.components()
                    .skip(1)
                    .all(|part| matches!(part, Component::Normal(_))),
                "{path:?}"
            );
            taken.push(known.to_string());
        }
    }
    assert!(tried >= 300 && taken.contains(&"fine:fine".to_owned()), "{taken:?}");
    assert!(
        taken
            .iter()
            .all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b':')),
        "{taken:?}"
    );
}

#[test]
fn stdin_is_read_as_far_as_the_limit_goes() {
    let machine = machine().config("").cache(env!("CARGO_TARGET_TMPDIR"));
    let binary = env!("CARGO_BIN_EXE_agenthost-cli");
    let run = |format: &str, items: &str| {
        let batch = format!(
            "{items} | '{binary}' batch '{}' - --format {format} --limit 2 -q",
            guest("misbehaves")
        );
        let child = Command::new("sh")
            .args(["-c", &batch])
            .current_dir(machine.cwd())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", machine.cwd())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    assert_eq!(run("jsonl", "yes '\"ok\"'"), 2);
    assert_eq!(run("json", "(echo '['; yes '\"ok\",')"), 2);
}

#[test]
fn a_journal_with_a_pipe_beside_it_is_not_waited_for() {
    let machine = machine().config("");
    let run = ["run", &guest("misbehaves"), "-i", "\"ok\""];
    for name in ["journal.db", "journal.db-wal", "journal.db-shm", "journal.db-journal"] {
        let path = machine.cwd().join(".agenthost").join(name);
        pipe(&path);
        for args in [&run[..], &["runs"], &["resume", "last"]] {
            let refused = machine.run(args);
            assert!(refused.error(70).contains("not a regular file"), "{name}: {refused}");
        }
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(machine.run(run).code, 0);
}

#[test]
fn nothing_in_a_found_journal_computes() {
    let run = ["run", &guest("misbehaves"), "-i", "\"ok\""];
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT";
    for (name, hostile) in [
        (
            "run",
            format!("ALTER TABLE run RENAME TO hidden; CREATE VIEW run AS {endless} i AS no, i AS id FROM n"),
        ),
        (
            "grow",
            "CREATE TRIGGER grow AFTER INSERT ON run BEGIN INSERT INTO turn VALUES (1, 1, 'x', 1); END".into(),
        ),
        ("again", "CREATE INDEX again ON run (abs(no))".into()),
        ("own", "CREATE TABLE own (n INTEGER CHECK (n > 0))".into()),
        ("search", "CREATE VIRTUAL TABLE search USING fts5(text)".into()),
    ] {
        let machine = machine().config("");
        assert_eq!(machine.run(run).code, 0);
        let journal = rusqlite::Connection::open(machine.cwd().join(".agenthost/journal.db")).unwrap();
        journal.execute_batch(&hostile).unwrap();
        drop(journal);
        for args in [
            &run[..],
            &["runs"],
            &["resume", "last"],
            &["plan", &guest("misbehaves")],
        ] {
            let refused = machine.run(args);
            let said = refused.error(70);
            assert!(said.contains("that no journal has"), "{name}: {refused}");
        }
    }
}

#[test]
fn results_do_not_go_through_a_link() {
    let machine = machine().config("");
    machine.write("../precious", "mine");
    machine.write("items.jsonl", "\"ok\"\n");
    let batch = ["batch", &guest("misbehaves"), "items.jsonl", "--output", "out.jsonl"];
    for target in ["../precious", "../new"] {
        symlink(target, machine.cwd().join("out.jsonl")).unwrap();
        let refused = machine.run(batch);
        assert!(refused.error(2).contains("--output out.jsonl: is a link"), "{refused}");
        std::fs::remove_file(machine.cwd().join("out.jsonl")).unwrap();
    }
    let outside = |name: &str| machine.cwd().parent().unwrap().join(name);
    assert_eq!(std::fs::read_to_string(outside("precious")).unwrap(), "mine");
    assert!(!outside("new").exists());
    assert_eq!(machine.run(batch).code, 0);
    let (shown, _) = machine.shell(
        &machine.cwd(),
        &format!(
            "agenthost batch {} items.jsonl -q --output /dev/stdout",
            guest("misbehaves")
        ),
        0,
    );
    assert!(shown.stdout.contains("\"index\""), "{shown}");
}

#[test]
fn items_are_not_read_from_a_device() {
    let machine = machine().config("");
    symlink("/dev/zero", machine.cwd().join("items.jsonl")).unwrap();
    let refused = machine.run(["batch", &guest("misbehaves"), "items.jsonl"]);
    assert!(refused.error(2).contains("items.jsonl: is a device"), "{refused}");
}

#[test]
fn trust_in_a_link_is_not_recorded() {
    let machine = machine();
    machine.write("../projects/one/Cargo.toml", "[package]\nname = 'one'\n");
    machine.write("../projects/agenthost.toml", "");
    symlink("../projects", machine.cwd().join("plugins")).unwrap();
    symlink("../projects/agenthost.toml", machine.cwd().join("agenthost.toml")).unwrap();
    for path in ["plugins", "agenthost.toml", "."] {
        let refused = machine.run(["trust", path]);
        assert!(refused.error(2).contains("is a link to"), "{path}: {refused}");
    }
    let list = machine.run(["trust", "--list"]);
    assert!(list.stderr.contains("nothing is trusted yet"), "{list}");
    // A folder that holds the home directory is not one project.
    let refused = machine.run(["trust", ".."]);
    assert!(refused.error(2).contains("too much to trust"), "{refused}");
}
