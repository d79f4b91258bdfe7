//! Two teams share plugins: one publishes, the other adds, vets, locks and runs; what changes is shown, and what was
//! tampered with never loads.

use std::path::{Path, PathBuf};

use agenthost::config::Config;
use agenthost::plugin::{Digest, PluginInfo};
use agenthost::registry::project::Project;
use agenthost::registry::{Name, Reference};
use agenthost_tests::dummy;
use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::plugin;
use serde_json::{Value, json};

use super::registry_oci::Registry;
use crate::{dice, machine};

/// A plugin with another manifest: the last one that is embedded counts.
pub(super) fn with_manifest(bytes: &[u8], manifest: &Value) -> Vec<u8> {
    fn leb(mut n: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let low = u8::try_from(n & 0x7f).unwrap();
            n >>= 7;
            out.push(if n == 0 { low } else { low | 0x80 });
            if n == 0 {
                return out;
            }
        }
    }
    let (name, data) = (b"agenthost:manifest", manifest.to_string());
    let mut section = leb(name.len());
    section.extend(name);
    section.extend(data.as_bytes());
    [bytes, &[0], &leb(section.len()), &section].concat()
}

/// A release of the real plugin `name`.
fn release(name: &str, version: &str, models: &[&str], tokens: u64) -> Vec<u8> {
    let bytes = std::fs::read(plugin(name)).unwrap();
    let manifest = json!({
        "format": 1, "name": name, "version": version, "models": models, "limits": {"tokens": tokens, "calls": 12},
    });
    with_manifest(&bytes, &manifest)
}

/// One team: a machine whose plugins of `demo` are in the registry.
pub(super) fn team(registry: &str) -> TestEnv {
    machine().config(&format!("[registries]\ndemo = \"{registry}\"\n"))
}

/// A team's new key without a password: the public half.
pub(super) fn key(team: &TestEnv, name: &str) -> String {
    let made = team.run(["key", "new", name, "--no-password"]);
    assert_eq!(made.code, 0, "{made}");
    made.stdout.trim().to_owned()
}

/// Publishes `bytes` with the publisher's key.
fn push(publisher: &TestEnv, bytes: &[u8], name: &str) -> Value {
    publisher.write("plugin.wasm", bytes);
    publisher
        .run(["push", "plugin.wasm", name, "--key", "release", "--json"])
        .json(0)
}

fn policy(key: &str) -> String {
    format!("format = 1\n\n[signers.release]\nkey = \"{key}\"\npublishes = [\"demo:*\"]\n")
}

const INPUT: &str = r#"{"company": "Acme", "questions": ["What do they sell?"]}"#;

/// The whole story, in a registry of any kind.
fn two_teams(registry: &str) {
    let (publisher, user) = (team(registry), team(registry));
    let public = key(&publisher, "release");
    let published = push(
        &publisher,
        &release("competitor", "1.0.0", &["fast"], 40_000),
        "demo:competitor",
    );
    assert_eq!(
        (&published["version"], &published["existed"]),
        (&"1.0.0".into(), &false.into())
    );

    // Before anything is trusted, nothing is taken.
    let add = ["add", "demo:competitor"];
    let refused = user.run(add);
    assert!(
        (refused.code == 4 && refused.stderr.contains("may not run: it is signed by the key")),
        "{refused}"
    );
    assert!(refused.stderr.contains("[signers."), "{refused}");
    user.write("agenthost-policy.toml", policy(&public));

    // The requested grants are shown, and are added once they are accepted.
    let shown = user.run(add);
    assert!(
        (shown.code == 4 && shown.stderr.contains("not accepted yet")),
        "{shown}"
    );
    for row in [
        "may do     calls models",
        "models     fast",
        "tokens 40,000",
        "signed by  release (RW",
    ] {
        assert!(shown.stdout.contains(row), "{row}: {shown}");
    }
    assert!(!user.cwd().join("agenthost.lock").exists());
    let document = user.run(["add", "demo:competitor", "--json"]).json(4);
    assert_eq!(
        (&document["accepted"], &document["error"]["class"]),
        (&false.into(), &"denied".into()),
        "one document: {document}"
    );
    let added = user.run(["add", "demo:competitor", "--accept"]);
    assert_eq!(added.code, 0, "{added}");
    assert!(
        added
            .stderr
            .contains("before it runs: demo:competitor 1.0.0 may not run: it is not vetted"),
        "{added}"
    );
    let run = ["run", "demo:competitor", "--input", INPUT];
    assert!(user.run(run).stderr.contains("it is not vetted"));

    // A person vouches for it, and it runs.
    let vetted = user.run([
        "vet",
        "demo:competitor",
        "--accept",
        "--who",
        "Ada",
        "--notes",
        "read its source",
        "--json",
    ]);
    let document = vetted.json(0);
    assert_eq!(document["accepted"], true, "{vetted}");
    let ran = user.run(run);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stdout.contains("\"company\":\"Acme\""), "{ran}");
    // No file takes its place.
    user.write("demo:competitor", "something else");
    assert_eq!(user.run(run).stdout, ran.stdout);
    let listed = user.run(["list", "--json"]).json(0);
    assert_eq!(listed["plugins"][0]["runs"], true, "{listed}");
    assert_eq!(listed["plugins"][0]["signer"], public.as_str());

    let doctor = user.run(["doctor"]);
    let found = "1 plugin locked; policy agenthost-policy.toml; 1 vetted";
    assert!(doctor.stdout.contains(found), "{doctor}");

    // The report gives the release, beside the version of its interface.
    let report = user.run([&run[..], &["--json"]].concat()).json(0);
    let task = &report["tasks"][0];
    assert_eq!(
        (&task["plugin"], &task["release"]),
        (&"demo:competitor@0.2.0".into(), &"1.0.0".into())
    );

    // If the cache is empty the plugin is fetched, with a message; offline it is not.
    let cache = user.surroundings().var("XDG_CACHE_HOME").map(PathBuf::from).unwrap();
    std::fs::remove_dir_all(cache.join("agenthost/plugins")).unwrap();
    let offline = [&run[..], &["--offline"]].concat();
    let refused = user.run(&offline);
    assert!(refused.stderr.contains("is not in the cache"), "{refused}");
    assert!(refused.stderr.contains("agenthost pull"), "{refused}");
    let fetched = user.run(run);
    assert_eq!(fetched.code, 0, "{fetched}");
    assert!(fetched.stderr.contains("fetching demo:competitor 1.0.0"), "{fetched}");
    assert_eq!(user.run(&offline).code, 0);

    // A release that asks for more is shown, and refused until it is accepted.
    push(
        &publisher,
        &release("competitor", "1.1.0", &["fast", "strong"], 90_000),
        "demo:competitor",
    );
    let lock = std::fs::read(user.cwd().join("agenthost.lock")).unwrap();
    let refused = user.run(["update"]);
    assert!(
        (refused.code == 4 && refused.stderr.contains("asks for more than was accepted")),
        "{refused}"
    );
    for line in [
        "demo:competitor 1.0.0 -> 1.1.0",
        "+ model name: strong",
        "+ limit tokens: 40000 -> 90000",
    ] {
        assert!(refused.stdout.contains(line), "{line}: {refused}");
    }
    let locked = user.run(["update", "--locked", "--json"]).json(4);
    assert_eq!(locked["updates"][0]["grows"], true, "{locked}");
    let said = locked["error"]["message"].as_str().unwrap();
    assert!(said.contains("can be updated"), "{locked}");
    assert_eq!(
        std::fs::read(user.cwd().join("agenthost.lock")).unwrap(),
        lock,
        "nothing was changed"
    );
    // The new bytes are not the vetted ones, so the vetted release stays, and runs.
    let held = user.run(["update", "--accept", "--json"]).json(4);
    assert_eq!(
        (&held["accepted"], &held["updates"][0]["runs"]),
        (&false.into(), &false.into()),
        "{held}"
    );
    assert!(
        held["updates"][0]["missing"]
            .as_str()
            .unwrap()
            .contains("it is not vetted"),
        "{held}"
    );
    let hint = held["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("agenthost vet demo:competitor@1.1.0 --accept"), "{held}");
    assert_eq!(std::fs::read(user.cwd().join("agenthost.lock")).unwrap(), lock);
    assert_eq!(user.run(run).code, 0);
    let again = user.run(["vet", "demo:competitor@1.1.0"]);
    assert!(again.stdout.contains("since        1.0.0 (Ada, "), "{again}");
    assert!(again.stdout.contains("+ model name: strong"), "{again}");
    let vet = ["vet", "demo:competitor@1.1.0", "--accept", "--who", "Ada"];
    assert_eq!(user.run(vet).code, 0);
    let updated = user.run(["update", "--accept", "--json"]).json(0);
    assert_eq!(updated["updates"][0]["to"], "1.1.0");
    assert_eq!(user.run(run).code, 0);

    // One that asks for less is taken without a word, once it is vetted.
    push(
        &publisher,
        &release("competitor", "1.2.0", &["fast"], 20_000),
        "demo:competitor",
    );
    let held = user.run(["update"]);
    assert_eq!(held.code, 4, "{held}");
    assert!(held.stderr.contains("the locked releases stay"), "{held}");
    assert!(held.stdout.contains("before it runs: demo:competitor 1.2.0"), "{held}");
    let held = user.run(["add", "demo:competitor@1.2.0"]);
    assert_eq!(held.code, 4, "{held}");
    for part in [
        "nothing was changed: demo:competitor 1.1.0 runs, and ",
        "agenthost vet demo:competitor@1.2.0 --accept",
    ] {
        assert!(held.stderr.contains(part), "{held}");
    }
    assert_eq!(user.run(run).code, 0, "the locked release stays");
    let vet = ["vet", "demo:competitor@1.2.0", "--accept", "--who", "Ada"];
    assert_eq!(user.run(vet).code, 0);
    let updated = user.run(["update"]);
    assert_eq!(updated.code, 0, "{updated}");
    assert!(updated.stdout.contains("- model name: strong"), "{updated}");

    // A version is published once, and one that was replaced all the same is found out.
    publisher.write("plugin.wasm", release("competitor", "1.2.0", &["fast"], 20_001));
    let refused = publisher.run(["push", "plugin.wasm", "demo:competitor", "--key", "release"]);
    assert_eq!(refused.code, 4, "{refused}");
    let same = push(
        &publisher,
        &release("competitor", "1.2.0", &["fast"], 20_000),
        "demo:competitor",
    );
    assert_eq!(
        (&same["existed"], &same["signatures"]),
        (&true.into(), &0.into()),
        "{same}"
    );

    // Another key may be as good for the policy; it is another word than the one that was accepted all the same.
    let second = key(&publisher, "second");
    let signer = format!("\n[signers.second]\nkey = \"{second}\"\npublishes = [\"demo:*\"]\n");
    user.write("agenthost-policy.toml", policy(&public) + &signer);
    publisher.write("plugin.wasm", release("competitor", "1.3.0", &["fast"], 20_000));
    // By its own name, which is the default.
    let pushed = publisher.run(["push", "plugin.wasm", "--key", "second"]);
    assert_eq!(pushed.code, 0, "{pushed}");
    // Without a key, it is signed all the same.
    let again = publisher.run(["push", "plugin.wasm"]);
    assert!(
        again.code == 0
            && !again.stderr.contains("not signed")
            && again.stderr.contains("it has 1 signature there already"),
        "{again}"
    );
    let vet = ["vet", "demo:competitor@1.3.0", "--accept", "--who", "Ada"];
    assert_eq!(user.run(vet).code, 0);
    let refused = user.run(["update"]);
    assert_eq!(refused.code, 4, "{refused}");
    let change = format!("+ signer: {public} -> {second}");
    assert!(refused.stdout.contains(&change), "{change}: {refused}");
    let updated = user.run(["update", "--accept"]);
    assert_eq!(updated.code, 0, "{updated}");
    assert!(updated.stderr.contains("1 plugin written to "), "{updated}");
}

#[test]
fn two_teams_share_a_plugin_by_a_directory() {
    let registry = tempfile::tempdir().unwrap();
    two_teams(&registry.path().display().to_string());
    // A version that was replaced secretly.
    let (publisher, user) = (
        team(&registry.path().display().to_string()),
        team(&registry.path().display().to_string()),
    );
    let public = key(&publisher, "release");
    user.write("agenthost-policy.toml", policy(&public));
    let file = registry.path().join("demo/competitor/1.2.0.wasm");
    for old in std::fs::read_dir(file.parent().unwrap()).unwrap() {
        std::fs::remove_file(old.unwrap().path()).unwrap();
    }
    push(
        &publisher,
        &release("competitor", "1.2.0", &["fast"], 20_000),
        "demo:competitor",
    );
    assert_eq!(user.run(["add", "demo:competitor", "--accept"]).code, 0);
    for old in std::fs::read_dir(file.parent().unwrap()).unwrap() {
        std::fs::remove_file(old.unwrap().path()).unwrap();
    }
    push(
        &publisher,
        &release("competitor", "1.2.0", &["fast"], 30_000),
        "demo:competitor",
    );
    let cache = user.surroundings().var("XDG_CACHE_HOME").map(PathBuf::from).unwrap();
    std::fs::remove_dir_all(cache.join("agenthost/plugins")).unwrap();
    for command in [
        ["pull"].as_slice(),
        &["update"],
        &["add", "demo:competitor", "--accept"],
    ] {
        let moved = user.run(command);
        assert!(
            moved
                .error(4)
                .contains("other bytes under this version than when it was locked"),
            "{moved}"
        );
    }
}

#[test]
fn two_teams_share_a_plugin_by_an_oci_registry() {
    let Some(registry) = Registry::open() else { return };
    two_teams(&format!("{}/plugins", registry.host()));
}

#[test]
fn an_orchestrator_brings_its_sub_agents_along() {
    let registry = tempfile::tempdir().unwrap();
    let place = registry.path().display().to_string();
    let (publisher, user) = (team(&place), team(&place));
    let public = key(&publisher, "release");
    user.write(
        "agenthost-policy.toml",
        format!("{}\n[references]\nunvetted = \"allow\"\n", policy(&public)),
    );
    for name in ["market-scan", "competitor"] {
        let path = plugin(name).display().to_string();
        let pushed = publisher.run(["push", &path, &format!("demo:{name}"), "--key", "release"]);
        assert_eq!(pushed.code, 0, "{pushed}");
    }
    let missing = user.run(["add", "demo:market-scan", "--accept"]);
    assert!(missing.stderr.contains("sub-agent demo:compare: "), "{missing}");
    assert!(!user.cwd().join("agenthost.lock").exists(), "all or nothing");
    assert!(missing.stderr.contains("check the name"), "{missing}");
    let path = plugin("compare").display().to_string();
    assert_eq!(
        publisher.run(["push", &path, "demo:compare", "--key", "release"]).code,
        0
    );
    assert_eq!(user.run(["add", "demo:market-scan", "--accept"]).code, 0);
    let listed = user.run(["list", "--json"]).json(0);
    let names: Vec<_> = listed["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["demo:compare", "demo:competitor", "demo:market-scan"]);
    let input = format!(
        "@{}",
        agenthost_tests::guests::workspace()
            .join("plugins/market-scan/input.json")
            .display()
    );
    let report = user
        .run([
            "run",
            "demo:market-scan@0.2.0",
            "--input",
            &input,
            "--json",
            "--offline",
            "--locked",
        ])
        .json(0);
    assert!(report["tasks"].as_array().unwrap().len() > 3, "{report}");
    // Of what a project names as a sub-agent by a reference, that is what is locked.
    let other = machine().config(&format!(
        "[registries]\ndemo = \"{place}\"\n[sub-agents]\n\"demo:compare\" = \"{}\"\n\"demo:competitor\" = \"demo:competitor@~0.2\"\n",
        plugin("compare").display()
    ));
    other.write(
        "agenthost-policy.toml",
        std::fs::read(user.cwd().join("agenthost-policy.toml")).unwrap(),
    );
    assert_eq!(other.run(["add", "demo:market-scan", "--accept"]).code, 0);
    let listed = other.run(["list", "--json"]).json(0);
    let wanted: Vec<_> = listed["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["wanted"].as_str().unwrap()))
        .collect();
    assert_eq!(wanted, [("demo:competitor", "~0.2"), ("demo:market-scan", "^0.2.0")]);
    let ran = other.run(["run", "demo:market-scan", "--input", &input]);
    assert_eq!(ran.code, 0, "{ran}");
    // A reference and a path side by side.
    let with = format!("demo:compare={path}");
    let ran = user.run(["run", "demo:market-scan", "--input", &input, "--with", &with]);
    assert_eq!(ran.code, 0, "{ran}");
    let other = user.run(["run", "demo:market-scan@^2", "--input", &input]);
    assert!(
        other
            .error(2)
            .contains("agenthost.lock has demo:market-scan 0.2.0, and ^2 was asked for"),
        "{other}"
    );
    let unknown = user.run(["run", "demo:nothing", "--input", "{}"]);
    assert!(unknown.stderr.contains("demo:nothing is not in"), "{unknown}");
    assert!(unknown.stderr.contains("agenthost add demo:nothing"), "{unknown}");
}

#[test]
fn a_policy_bounds_what_a_plugin_is_given() {
    let registry = tempfile::tempdir().unwrap();
    let place = registry.path().display().to_string();
    let (publisher, user) = (team(&place), team(&place));
    let public = key(&publisher, "release");
    push(
        &publisher,
        &release("competitor", "1.0.0", &["fast"], 40_000),
        "demo:competitor",
    );
    let policy = policy(&public) + "\n[references]\nunvetted = \"allow\"\n\n";
    user.write("agenthost-policy.toml", policy.clone() + "[max]\ncalls = 1\n");
    let added = user.run(["add", "demo:competitor", "--accept"]);
    assert_eq!(added.code, 0, "{added}");
    let max = "asks for   calls 12, tokens 40,000\n  policy max calls 1\n";
    assert!(added.stdout.contains(max), "{added}");
    let vetted = user.run(["vet", "demo:competitor"]);
    assert!(vetted.stdout.contains("  policy max   calls 1\n"), "{vetted}");
    let document = user.run(["vet", "demo:competitor", "--json"]).json(0);
    assert_eq!(
        document["max"],
        json!({"limits": {"calls": 1}, "models": null, "server-tools": null}),
        "{document}"
    );
    let run = ["run", "demo:competitor", "--input", INPUT, "--calls", "9", "--json"];
    let report = user.run(run).json(3);
    assert_eq!(report["outcome"]["failure"]["limit"], "calls", "{report}");
    let for_people = user.run(["run", "demo:competitor", "--input", INPUT, "--calls", "9"]);
    for said in [
        "note: agenthost-policy.toml keeps some limits below",
        "`calls` in [max] and [max-for]",
    ] {
        assert!(for_people.stderr.contains(said), "{for_people}");
    }
    user.write(
        "agenthost-policy.toml",
        policy.clone() + "[max]\nmodels = [\"strong\"]\n",
    );
    let denied = |report: &serde_json::Value, why: &str| {
        let failure = &report["outcome"]["failure"];
        assert_eq!(failure["class"], "denied", "{report}");
        assert!(failure["message"].as_str().unwrap().contains(why), "{report}");
    };
    denied(
        &user.run(run).json(4),
        "the policy allows demo:competitor no model `fast`",
    );

    // A plugin gets only the models that it names, wherever it is from.
    user.write("other.wasm", release("competitor", "1.0.0", &["strong"], 40_000));
    user.write("agenthost-policy.toml", &policy);
    let report = user.run(["run", "other.wasm", "--input", INPUT, "--json"]).json(4);
    denied(&report, "does not name it among its `models`");

    // And a policy may forbid paths.
    user.write("agenthost-policy.toml", policy + "[paths]\nunsigned = \"deny\"\n");
    let refused = user.run(["run", "other.wasm", "--input", INPUT]);
    assert!(
        refused
            .error(4)
            .contains("[paths] unsigned = \"deny\" (agenthost-policy.toml:"),
        "{refused}"
    );
}

const TINY: &str = "package demo:tiny@0.1.0;
interface task { run: async func(input: string) -> result<string, string>; }
world tiny { include agenthost:plugin/plugin@0.1.0; export task; }";

/// A project that uses a tiny plugin: signed, locked, vetted.
struct Tampered {
    user: TestEnv,
    registry: tempfile::TempDir,
    digest: Digest,
}

impl Tampered {
    fn new() -> Self {
        let registry = tempfile::tempdir().unwrap();
        let place = registry.path().display().to_string();
        let user = team(&place);
        let public = key(&user, "release");
        user.write("agenthost-policy.toml", policy(&public));
        let manifest = json!({"format": 1, "version": "1.0.0", "models": ["fast"], "limits": {"tokens": 1_000}});
        let bytes = with_manifest(&dummy::component(&[TINY]), &manifest);
        push(&user, &bytes, "demo:tiny");
        std::fs::remove_file(user.cwd().join("plugin.wasm")).unwrap();
        assert_eq!(user.run(["add", "demo:tiny", "--accept"]).code, 0);
        assert_eq!(user.run(["vet", "demo:tiny", "--accept", "--who", "Ada"]).code, 0);
        let tampered = Self {
            user,
            registry,
            digest: Digest::of(&bytes),
        };
        assert_eq!(tampered.loaded().unwrap(), Some(tampered.digest));
        tampered
    }

    fn project(&self) -> agenthost::error::Result<Project> {
        let env = self.user.surroundings();
        let cache = env
            .var("XDG_CACHE_HOME")
            .map(|dir| PathBuf::from(dir).join("agenthost/plugins"));
        Ok(Project::open(&Config::load(&env)?, &env, cache)?)
    }

    /// The digest of the plugin that would run; `None` if the lock file no longer names it.
    fn loaded(&self) -> agenthost::error::Result<Option<Digest>> {
        let project = self.project()?;
        let name: Name = "demo:tiny".parse().unwrap();
        match project.lock().get(&name) {
            Some(locked) => Ok(Some(Digest::of(&project.admit(locked)?.bytes))),
            None => Ok(None),
        }
    }

    /// The digest that a new user would get by adding it, if it may run.
    fn found(&self) -> agenthost::error::Result<Digest> {
        let reference: Reference = "demo:tiny".parse().unwrap();
        let project = self.project()?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(project.find(&reference))?;
        project.judge(&found, true)?;
        Ok(found.plugin.digest)
    }

    fn cached(&self, end: &str) -> PathBuf {
        let cache = self
            .user
            .surroundings()
            .var("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .unwrap();
        let files = std::fs::read_dir(cache.join("agenthost/plugins")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let mut found: Vec<_> = files.filter(|path| path.to_string_lossy().ends_with(end)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

/// Changes `file` at 1,000 random positions, one at a time: a bit, a byte, a byte less, a byte more. After each, runs
/// `check`, which returns whether the file was refused; returns the number of refusals.
fn tamper(file: &Path, seed: u64, check: impl Fn() -> bool) -> usize {
    let good = std::fs::read(file).unwrap();
    let mut refused = 0;
    for n in 0..1_000 {
        let roll = dice(seed, n);
        let at = usize::try_from(roll >> 16).unwrap() % good.len();
        let mut bad = good.clone();
        match roll % 4 {
            0 => bad[at] ^= 1 << ((roll >> 8) % 8),
            1 => bad[at] = u8::try_from((roll >> 8) % 256).unwrap(),
            2 => drop(bad.remove(at)),
            _ => bad.insert(at, u8::try_from((roll >> 8) % 256).unwrap()),
        }
        std::fs::write(file, &bad).unwrap();
        refused += usize::from(check());
    }
    std::fs::write(file, &good).unwrap();
    refused
}

#[test]
fn nothing_that_was_tampered_with_ever_loads() {
    let tampered = Tampered::new();
    // True if it was refused; anything that loads is the real thing.
    let runs = || match tampered.loaded() {
        Ok(None) | Err(_) => true,
        Ok(Some(digest)) => {
            assert_eq!(digest, tampered.digest, "something else was loaded");
            false
        }
    };
    let lock = tampered.user.cwd().join("agenthost.lock");
    let vetted = tampered.user.cwd().join("vetted.toml");
    let mut changes = 0;
    // Only comments, remarks and equal bytes may be changed without a refusal.
    for (file, least) in [
        (tampered.cached(".wasm"), 990),
        (tampered.cached(".minisig"), 990),
        (lock, 600),
        (vetted, 500),
    ] {
        let refused = tamper(&file, 7, runs);
        assert!(refused >= least, "{}: {refused} of 1,000 were refused", file.display());
        changes += 1_000;
        assert_eq!(tampered.loaded().unwrap(), Some(tampered.digest), "all is well again");
    }

    let found = || match tampered.found() {
        Err(_) => true,
        Ok(digest) => {
            assert_eq!(digest, tampered.digest, "something else was found");
            false
        }
    };
    let published = tampered.registry.path().join("demo/tiny");
    for name in ["1.0.0.wasm", "1.0.0.wasm.minisig"] {
        let refused = tamper(&published.join(name), 11, found);
        assert!(refused >= 990, "{name}: {refused} of 1,000 were refused");
        changes += 1_000;
    }
    agenthost_tests::figure(17, "changes", changes);
    assert_eq!(tampered.found().unwrap(), tampered.digest);
}

#[test]
fn the_cache_follows_no_links() {
    let tampered = Tampered::new();
    let file = tampered.cached(".wasm");
    let elsewhere = tampered.user.cwd().join("elsewhere.wasm");
    std::fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    let refused = tampered.user.run(["run", "demo:tiny", "--input", "\"x\""]);
    assert!(
        (refused.code == 4 && refused.stderr.contains("it is a link, and the cache has none")),
        "{refused}"
    );
}

#[test]
fn bad_names_and_references_are_refused_with_a_reason() {
    let machine = team("/nowhere");
    for (reference, said) in [
        ("demo:..", "is not a plugin's name"),
        ("demo:a/../b", "is not a host"),
        ("Demo:x", "is not a plugin's name"),
        ("demo:x@latest", "neither a version nor a range"),
        ("demo:\u{0445}", "is not a plugin's name"),
        ("demo:x\u{7}", "is not a plugin's name"),
        ("http://registry.example/x:1", "is not a place"),
        ("registry.example/x@sha256:12", "64 hexadecimal digits"),
    ] {
        for command in [["add", reference].as_slice(), &["run", reference, "--input", "{}"]] {
            let refused = machine.run(command);
            assert_eq!(refused.code, 2, "{reference:?}: {refused}");
            assert!(refused.stderr.contains(said), "{reference:?}: {refused}");
        }
    }
    let none = machine.run(["add", "acme:x"]);
    assert!(none.stderr.contains("no registry is configured for acme:x"), "{none}");
    assert!(none.stderr.contains("[registries]"), "{none}");
    let missing = machine.run(["add", "demo:x"]);
    assert_eq!(missing.code, 2, "{missing}");
    assert!(
        missing
            .stderr
            .contains("/nowhere: the registry's directory does not exist"),
        "{missing}"
    );
    let registry = tempfile::tempdir().unwrap();
    let empty = team(&registry.path().display().to_string()).run(["add", "demo:x"]);
    assert!(empty.stderr.contains("no release of demo:x"), "{empty}");
    let down = machine.run(["add", "127.0.0.1:9/demo/x:1.0.0"]);
    assert_eq!(down.code, 2, "{down}");
    assert!(down.stderr.contains("hint:"), "{down}");
    let broken = machine.write("agenthost.lock", "format = 1\n[[plugin]]\nname = 3\n");
    let refused = machine.run(["list"]);
    assert!(refused.stderr.contains("line 3"), "{}: {refused}", broken.display());
}

#[test]
fn a_plugin_pushed_under_another_name_is_not_taken() {
    let registry = tempfile::tempdir().unwrap();
    let place = registry.path().display().to_string();
    let user = team(&place);
    key(&user, "release");
    user.write("plugin.wasm", release("competitor", "1.0.0", &["fast"], 40_000));
    let refused = user.run(["push", "plugin.wasm", "demo:other"]);
    assert!(refused.stderr.contains("the plugin is demo:competitor"), "{refused}");
    let refused = user.run(["push", "plugin.wasm", "demo:competitor@2.0.0"]);
    assert!(refused.stderr.contains("its version is 1.0.0"), "{refused}");
    // Limits that are none are not published, and not vouched for.
    let manifest = json!({"format": 1, "name": "tiny", "version": "1.0.0", "limits": {"token": 5}});
    user.write("tiny.wasm", with_manifest(&dummy::component(&[TINY]), &manifest));
    let refused = user.run(["push", "tiny.wasm"]);
    assert!(
        refused
            .error(2)
            .contains("its manifest's limits: unknown limit `token`; the known ones are tokens,"),
        "{refused}"
    );
    let vetted = user.run(["vet", "tiny.wasm", "--accept", "--who", "Ada"]);
    assert_eq!(vetted.code, 4, "{vetted}");
    assert!(
        vetted
            .stdout
            .contains("manifest     FAILED   its limits: unknown limit `token`"),
        "{vetted}"
    );
    assert!(!user.cwd().join("vetted.toml").exists());
    let dir = registry.path().join("demo/other");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(user.cwd().join("plugin.wasm"), dir.join("1.0.0.wasm")).unwrap();
    let refused = user.run(["add", "demo:other", "--accept"]);
    assert!(
        (refused.code == 4 && refused.stderr.contains("the plugin there is demo:competitor")),
        "{refused}"
    );
    let dir = registry.path().join("demo/competitor");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(user.cwd().join("plugin.wasm"), dir.join("9.0.0.wasm")).unwrap();
    let refused = user.run(["add", "demo:competitor", "--accept"]);
    assert!(
        (refused.code == 4 && refused.stderr.contains("the plugin there is demo:competitor 1.0.0")),
        "{refused}"
    );
    assert!(PluginInfo::open(&user.cwd().join("plugin.wasm")).is_ok());
}
