//! The plugins that are part of the program: they are locked, vetted and refused like plugins of a registry.

use agenthost_tests::env::TestEnv;

use crate::machine;

/// Returns a machine with a project.
fn project() -> TestEnv {
    let machine = machine().config("");
    assert_eq!(machine.run(["add", "agenthost:fan-out", "--accept"]).code, 0);
    machine
}

const SPAWN: [&str; 4] = ["spawn", "Count to one", "Count to two", "--offline-models"];

#[test]
fn a_locked_one_runs_with_its_sub_agents_also_without_a_cache() {
    let machine = project();
    let lock = std::fs::read_to_string(machine.cwd().join("agenthost.lock")).unwrap();
    assert_eq!(
        lock.matches("source = \"built-in\"").count(),
        2,
        "with agenthost:ask: {lock}"
    );
    assert_eq!(machine.run(SPAWN).code, 0);
    std::fs::remove_dir_all(machine.compiled().with_file_name("plugins")).unwrap();
    let again = machine.run(SPAWN);
    assert_eq!(again.code, 0, "{again}");
    assert!(
        again.stderr.contains("fetching agenthost:fan-out 0.1.0 from built-in"),
        "{again}"
    );
    let updated = machine.run(["update"]);
    assert_eq!(updated.code, 0, "{updated}");
    let listed = machine.run(["list", "agenthost:map"]);
    assert_eq!((listed.code, listed.stdout.as_str()), (0, "0.1.0\n"), "{listed}");
    let inspected = machine.run(["inspect", "agenthost:map"]);
    assert!(
        inspected.stdout.contains("source     part of this program"),
        "{inspected}"
    );
}

#[test]
fn another_release_than_the_locked_one_is_not_run() {
    let machine = project();
    let lock = machine.cwd().join("agenthost.lock");
    let text = std::fs::read_to_string(&lock).unwrap();
    let (before, digest) = text.split_once("digest = \"sha256:").unwrap();
    std::fs::write(
        &lock,
        format!("{before}digest = \"sha256:{}{}", "0".repeat(8), &digest[8..]),
    )
    .unwrap();
    let other = machine.run(["spawn", "Count", "--offline-models"]);
    let error = other.error(2);
    assert!(
        error.contains("agenthost:ask 0.1.0: the release of this program is sha256:")
            && error.contains("agenthost.lock has sha256:00000000")
            && error.contains("`agenthost add agenthost:ask`"),
        "{other}"
    );
    std::fs::write(&lock, text.replace("agenthost:ask", "agenthost:asks")).unwrap();
    std::fs::remove_dir_all(machine.compiled().with_file_name("plugins")).unwrap();
    let gone = machine.run(["pull"]);
    assert!(
        gone.error(2).contains("agenthost:asks is not part of this program"),
        "{gone}"
    );
}

#[test]
fn a_lock_file_cannot_pass_another_plugin_off_as_one() {
    let machine = project();
    let lock = machine.cwd().join("agenthost.lock");
    let text = std::fs::read_to_string(&lock).unwrap();
    // The bytes of another plugin are in the cache, and its entry claims to be part of the program.
    assert_eq!(machine.run(["add", "agenthost:map", "--accept"]).code, 0);
    let entry = |name: &str| {
        let all = std::fs::read_to_string(&lock).unwrap();
        let entry = all
            .split("[[plugin]]")
            .find(|entry| entry.contains(&format!("name = \"{name}\"")));
        entry.unwrap().to_owned()
    };
    let claimed = entry("agenthost:map").replace("agenthost:map", "acme:map");
    std::fs::write(&lock, format!("{text}\n[[plugin]]{claimed}")).unwrap();
    let other = machine.run(["run", "acme:map", "--input", "{}", "--offline-models"]);
    assert!(
        other.error(4).contains("agenthost.lock has the name acme:map"),
        "{other}"
    );
    let swapped = entry("agenthost:ask");
    let digest = |entry: &str| {
        entry
            .split('"')
            .find(|part| part.starts_with("sha256:"))
            .unwrap()
            .to_owned()
    };
    let ask = text.replace(&digest(&swapped), &digest(&claimed));
    std::fs::write(&lock, ask).unwrap();
    let spawned = machine.run(["spawn", "Count", "--offline-models"]);
    assert_ne!(spawned.code, 0, "{spawned}");
    assert!(!spawned.stdout.contains("Count"), "{spawned}");
}

#[test]
fn policies_treat_it_as_a_file_and_a_person_can_vet_it() {
    let machine = machine().config("");
    machine.write("agenthost-policy.toml", "format = 1\n[paths]\nunvetted = \"deny\"\n");
    let spawn = ["spawn", "Count", "--offline-models"];
    let refused = machine.run(spawn);
    assert!(
        refused.error(4).contains("agenthost vet agenthost:ask --accept"),
        "{refused}"
    );
    let vetted = machine.run(["vet", "agenthost:ask", "--accept", "--who", "Ada", "--notes", "read"]);
    assert_eq!(vetted.code, 0, "{vetted}");
    assert_eq!(machine.run(spawn).code, 0);

    // The rules for files hold for a locked one, too.
    assert_eq!(machine.run(["add", "agenthost:ask", "--accept"]).code, 0);
    assert_eq!(machine.run(spawn).code, 0);
    machine.write("agenthost-policy.toml", "format = 1\n[paths]\nunsigned = \"deny\"\n");
    let unsigned = machine.run(spawn);
    assert!(unsigned.error(4).contains("[paths] unsigned = \"deny\""), "{unsigned}");
    machine.write(
        "agenthost-policy.toml",
        "format = 1\n[references]\nunsigned = \"deny\"\n",
    );
    assert_eq!(machine.run(spawn).code, 0);
}
