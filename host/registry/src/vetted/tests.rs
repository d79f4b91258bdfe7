//! Entries are read as they were written, in an order that a reviewer can follow; an error names its line.

use serde_json::json;

use super::*;
use agenthost_core::error::{Classify as _, ErrorClass, with_causes};

fn scratch() -> (tempfile::TempDir, Env) {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::new(Default::default(), dir.path(), None);
    (dir, env)
}

fn entry(version: &str, who: &str) -> Vetted {
    let asks = Asks {
        imports: ["agenthost:plugin/llm@0.1.0".to_owned()].into(),
        models: Some(["fast".to_owned()].into()),
        limits: serde_json::from_value(json!({"cost": 0.5, "tokens": "40k"})).unwrap(),
        ..Asks::default()
    };
    let name = "acme:competitor".parse().unwrap();
    let digest = Digest::of(version.as_bytes());
    Vetted {
        when: "2026-11-23".into(),
        ..Vetted::new(name, version.parse().unwrap(), digest, who, asks)
    }
}

fn said(error: &VetError) -> String {
    with_causes(error)
}

/// Returns the entries for a digest.
fn of<'a>(file: &'a VetFile, digest: &Digest) -> Vec<&'a Vetted> {
    file.entries().iter().filter(|entry| entry.digest == *digest).collect()
}

#[test]
fn a_file_reads_like_a_list_and_keeps_its_comments() {
    let (dir, env) = scratch();
    let path = Path::new(VET_FILE);
    let mut second = entry("1.10.0", "Ada <ada@example.org>");
    second.notes = "Reads no files.\nKeeps to its \"limits\".".into();
    second.checks = vec!["imports".into(), "cassettes".into()];
    VetFile::record(&env, path, second.clone()).unwrap();
    VetFile::record(&env, path, entry("1.9.0", "Bob")).unwrap();
    let text = fs::read_to_string(dir.path().join(VET_FILE)).unwrap();
    let digests = [Digest::of(b"1.9.0"), Digest::of(b"1.10.0")];
    let asks = "[vetted.asks]
imports = [\"agenthost:plugin/llm@0.1.0\"]
models = [\"fast\"]

[vetted.asks.limits]
cost = 0.5
tokens = \"40k\"
";
    let expected = format!(
        "{HEADER}format = 1

[[vetted]]
plugin = \"acme:competitor\"
version = \"1.9.0\"
digest = \"{}\"
who = \"Bob\"
when = \"2026-11-23\"

{asks}
[[vetted]]
plugin = \"acme:competitor\"
version = \"1.10.0\"
digest = \"{}\"
who = \"Ada <ada@example.org>\"
when = \"2026-11-23\"
notes = \"\"\"
Reads no files.
Keeps to its \"limits\".\"\"\"
checks = [
    \"imports\",
    \"cassettes\",
]

{asks}",
        digests[0], digests[1]
    );
    assert_eq!(text, expected);

    let file = VetFile::load(&env, path).unwrap();
    let mut read = of(&file, &digests[1])[0].clone();
    assert_eq!(read.place().unwrap().to_string(), "vetted.toml:20");
    assert_eq!(read.file(), Some(dir.path().join(VET_FILE).as_path()));
    read.place = None;
    assert_eq!(read, second);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );

    // The same person and digest again; another header is kept.
    fs::write(dir.path().join(VET_FILE), text.replace(HEADER, "# Ours.\n\n")).unwrap();
    let mut again = entry("1.9.0", "Bob");
    again.notes = "Looked again.".into();
    VetFile::record(&env, path, again).unwrap();
    VetFile::record(&env, path, entry("1.9.0", "Ada <ada@example.org>")).unwrap();
    let file = VetFile::load(&env, path).unwrap();
    let who: Vec<_> = file.entries().iter().map(|entry| entry.who.as_str()).collect();
    assert_eq!(who, ["Ada <ada@example.org>", "Bob", "Ada <ada@example.org>"]);
    assert_eq!(of(&file, &digests[0])[1].notes, "Looked again.");
    let before = fs::read_to_string(dir.path().join(VET_FILE)).unwrap();
    assert!(before.starts_with("# Ours.\n\nformat = 1\n"), "{before}");
    assert_eq!(file.text().unwrap(), before, "stable");
}

#[test]
fn the_last_vetted_version_before_one_is_found() {
    let (_dir, env) = scratch();
    for version in ["1.9.0", "1.10.0", "2.0.0", "1.10.1-rc.1"] {
        VetFile::record(&env, Path::new("v.toml"), entry(version, "Bob")).unwrap();
    }
    let file = VetFile::load(&env, Path::new("v.toml")).unwrap();
    let name: Name = "acme:competitor".parse().unwrap();
    let before = |below: &str| {
        let found = latest(file.entries(), &name, &below.parse().unwrap());
        found.map(|entry| entry.version.to_string())
    };
    assert_eq!(before("1.10.0").as_deref(), Some("1.9.0"));
    assert_eq!(before("1.11.0").as_deref(), Some("1.10.1-rc.1"));
    assert_eq!(before("9.0.0").as_deref(), Some("2.0.0"));
    assert_eq!(before("1.9.0"), None);
    assert_eq!(
        latest(
            file.entries(),
            &"acme:other".parse().unwrap(),
            &"9.0.0".parse().unwrap()
        ),
        None
    );
}

#[test]
fn what_is_broken_is_named_with_its_line() {
    let (dir, env) = scratch();
    let path = Path::new(VET_FILE);
    VetFile::record(&env, path, entry("1.9.0", "Bob")).unwrap();
    let good = fs::read_to_string(dir.path().join(VET_FILE)).unwrap();
    for (old, new, why) in [
        (
            "format = 1",
            "format = 2",
            "vetted.toml:1: this version reads format 1, not 2",
        ),
        ("format = 1", "", "vetted.toml:1: missing field `format`"),
        (
            "who = \"Bob\"",
            "who = \"\"",
            "vetted.toml:5: `who` is one line of 1 to 200 bytes",
        ),
        (
            "who = \"Bob\"",
            "who = \"a\\u001bb\"",
            "vetted.toml:5: `who` is one line of 1 to 200 bytes",
        ),
        (
            "who = \"Bob\"",
            "whom = \"Bob\"",
            "vetted.toml:9: unknown field `whom`, expected one of",
        ),
        ("who = \"Bob\"\n", "", "vetted.toml:5: missing field `who`"),
        ("2026-11-23", "2026-02-30", "vetted.toml:5: `when` is a day"),
        (
            "acme:competitor",
            "acme:../x",
            "vetted.toml:6: `acme:../x` is not a plugin's name",
        ),
        ("\"1.9.0\"", "\"1.9\"", "vetted.toml:7: "),
        ("sha256:", "sha256:0", "vetted.toml:8: "),
        ("imports", "reaches", "vetted.toml:13: unknown field `reaches`"),
        ("[[vetted]]", "[[vetted", "vetted.toml:5: "),
    ] {
        assert!(good.contains(old), "{old}");
        fs::write(dir.path().join(VET_FILE), good.replacen(old, new, 1)).unwrap();
        let error = VetFile::load(&env, path).unwrap_err();
        assert!(said(&error).starts_with(why), "{new}: {error}");
        assert_eq!(error.class(), ErrorClass::Config);
        assert!(
            VetFile::record(&env, path, entry("1.9.1", "Bob")).is_err(),
            "and nothing is written"
        );
    }
    fs::write(dir.path().join(VET_FILE), "#".repeat(2 << 20)).unwrap();
    assert!(said(&VetFile::load(&env, path).unwrap_err()).ends_with("it is larger than 1 MiB"));
    assert_eq!(VetFile::load(&env, Path::new("none.toml")).unwrap().entries(), []);
    let error = VetFile::record(&env, Path::new("none.toml"), entry("1.0.0", "a\nb")).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Usage);
    assert!(!dir.path().join("none.toml").exists());
}

#[test]
fn days_are_days() {
    for (days, day) in [
        (0, "1970-01-01"),
        (59, "1970-03-01"),
        (11_016, "2000-02-29"),
        (20_780, "2026-11-23"),
    ] {
        assert_eq!(date(days), day);
        assert!(is_date(day));
    }
    assert!(is_date(&today()));
    for text in [
        "",
        "2026-13-01",
        "2026-00-01",
        "2026-01-00",
        "2026-1-01",
        "2025-02-29",
        "+026-01-01",
        "2026-01-011",
    ] {
        assert!(!is_date(text), "{text}");
    }
}
