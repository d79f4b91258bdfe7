//! Keys and signatures from outside, compared with the public minisign if it is available.
//!
//! `AGENTHOST_MINISIGN` names the tool; otherwise the one on PATH is taken, or Debian's package is unpacked below the
//! build directory. If none of these works, the tests that need it print a note and do nothing.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use agenthost::registry::keys;
use agenthost::registry::signature::{self, PublicKey, Signature};
use agenthost::registry::statement::Statement;
use agenthost_tests::dummy;
use agenthost_tests::env::TestEnv;
use serde_json::Value;

use crate::{dice, machine};

const PLUGIN: &str = "package acme:competitor@1.2.0;
interface task { run: async func(input: string) -> result<string, string>; }
world competitor { include agenthost:plugin/plugin@0.1.0; export task; }";

/// A machine with a plugin and a key `acme` without a password, and the key's public half.
fn with_key() -> (TestEnv, String) {
    let machine = machine();
    machine.write("plugin.wasm", dummy::component(&[PLUGIN]));
    let made = machine.run(["key", "new", "acme", "--no-password"]);
    assert_eq!(made.code, 0, "{made}");
    (machine, made.stdout.trim().to_owned())
}

/// The same, with the plugin signed.
fn signed() -> (TestEnv, String) {
    let (machine, key) = with_key();
    let signed = machine.run(["key", "sign", "plugin.wasm", "--key", "acme"]);
    assert_eq!(signed.code, 0, "{signed}");
    (machine, key)
}

fn verify(machine: &TestEnv, key: &str) -> agenthost_tests::env::Output {
    machine.run(["key", "verify", "plugin.wasm", "--public-key", key])
}

fn keys_dir(machine: &TestEnv) -> PathBuf {
    machine.surroundings().user_file().unwrap().with_file_name("keys")
}

#[test]
fn a_plugin_is_signed_and_verified() {
    let (machine, key) = signed();
    let output = verify(&machine, &key);
    let id = key.parse::<PublicKey>().unwrap().id();
    assert_eq!(output.code, 0, "{output}");
    assert!(
        output
            .stdout
            .starts_with(&format!("{id} signed acme:competitor 1.2.0\n  digest: sha256:")),
        "{output}"
    );
    assert!(
        output.stdout.contains("\n  import: agenthost:plugin/llm@0.1.0\n"),
        "{output}"
    );

    // By its file, and as data.
    let file = keys_dir(&machine).join("acme.pub").display().to_string();
    let document = machine
        .run(["key", "verify", "plugin.wasm", "--public-key", &file, "--json"])
        .json(0);
    assert_eq!(
        (&document["id"], &document["public_key"]),
        (&id.as_str().into(), &key.as_str().into())
    );
    assert_eq!(document["statement"]["name"], "acme:competitor");
    assert_eq!(document["comment"], Value::Null);
    let again = machine
        .run(["key", "sign", "plugin.wasm", "--key", "acme", "--json"])
        .json(0);
    assert_eq!(again["statement"], document["statement"]);
    let files = std::fs::read_dir(machine.cwd()).unwrap().count();
    assert_eq!(files, 2, "a plugin and its signature");

    let listed = machine.run(["key", "list"]);
    assert_eq!(listed.stdout, format!("acme  {key}\n"));
    let listed = machine.run(["key", "list", "--json"]).json(0);
    assert_eq!(listed["keys"][0]["id"], id.as_str());
    assert_eq!(listed["keys"][0]["secret"], true);
}

#[test]
fn what_does_not_verify_is_refused() {
    let (machine, key) = signed();
    let other = machine.run(["key", "new", "other", "--no-password"]).stdout;
    let output = verify(&machine, other.trim());
    assert!(output.error(4).contains("the signature is of the key"), "{output}");
    let output = verify(&machine, "RWnonsense");
    assert!(
        output
            .error(2)
            .contains("which is not a file either: not a minisign public key"),
        "{output}"
    );

    // The signature of another plugin that the same key signed.
    let newer = PLUGIN.replace("@1.2.0;", "@1.3.0;");
    machine.write("newer.wasm", dummy::component(&[&newer]));
    let args = ["key", "verify", "newer.wasm", "--public-key", &key];
    let output = machine.run(args);
    assert!(output.error(2).contains("cannot read the signature"), "{output}");
    std::fs::copy(
        machine.cwd().join("plugin.wasm.minisig"),
        machine.cwd().join("newer.wasm.minisig"),
    )
    .unwrap();
    let output = machine.run(args);
    assert!(output.error(4).contains("does not verify"), "{output}");
    let document = machine.run(args.into_iter().chain(["--json"])).json(4);
    assert_eq!(document["error"]["class"], "denied");

    // Nothing is written if nothing can be signed.
    machine.write("x.wasm", "no plugin");
    let output = machine.run(["key", "sign", "x.wasm", "--key", "acme"]);
    assert!(output.error(2).contains("is not WebAssembly"), "{output}");
    assert!(!machine.cwd().join("x.wasm.minisig").exists());
    let output = machine.run(["key", "sign", "plugin.wasm", "--key", "nobody"]);
    assert!(output.error(2).contains("there is no key `nobody`"), "{output}");
    assert!(output.stderr.contains("Those that are there: acme, other."), "{output}");
}

#[test]
fn a_key_is_kept_to_oneself() {
    let (machine, _) = with_key();
    let path = keys_dir(&machine).join("acme.key");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let output = machine.run(["key", "new", "acme", "--no-password"]);
    assert!(output.error(4).contains("no key is overwritten"), "{output}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = machine.run(["key", "sign", "plugin.wasm", "--key", "acme"]);
    assert!(output.error(4).contains("open to others (mode 644)"), "{output}");
    assert!(
        output.stderr.contains(&format!("chmod 600 {}", path.display())),
        "{output}"
    );
    let output = machine.run(["key", "new", "../acme", "--no-password"]);
    assert!(output.error(2).contains("is not a name for a key"), "{output}");
    // Without a variable and without a terminal the command cannot ask for a password.
    let output = machine.run(["key", "new", "second"]);
    assert!(output.error(2).contains("there is no terminal to ask on"), "{output}");
    assert!(output.stderr.contains("AGENTHOST_KEY_PASSWORD"), "{output}");
    assert!(!keys_dir(&machine).join("second.key").exists());
}

#[test]
fn nothing_that_was_changed_at_any_place_verifies() {
    let (machine, key) = signed();
    let key: PublicKey = key.parse().unwrap();
    let component = std::fs::read(machine.cwd().join("plugin.wasm")).unwrap();
    let text = std::fs::read(machine.cwd().join("plugin.wasm.minisig")).unwrap();
    let verifies = |component: &[u8], text: &[u8]| {
        let Ok(text) = std::str::from_utf8(text) else {
            return false;
        };
        Signature::parse(text).is_ok_and(|signature| signature.verify(&key, component).is_ok())
    };
    assert!(verifies(&component, &text));
    let change = |bytes: &[u8], n: usize| {
        let (at, by) = (dice(7, 2 * n), dice(7, 2 * n + 1));
        let mut changed = bytes.to_vec();
        let len = changed.len() as u64;
        // Never by nothing.
        changed[usize::try_from(at % len).unwrap()] ^= u8::try_from(by % 255 + 1).unwrap();
        changed
    };
    for n in 0..1_000 {
        assert!(!verifies(&change(&component, n), &text), "component, change {n}");
        assert!(!verifies(&component, &change(&text, n)), "signature, change {n}");
    }
}

/// How to start the public tool, or why it cannot be had.
fn tool() -> &'static Result<(PathBuf, Option<PathBuf>), String> {
    static TOOL: OnceLock<Result<(PathBuf, Option<PathBuf>), String>> = OnceLock::new();
    TOOL.get_or_init(|| {
        if let Some(path) = std::env::var_os("AGENTHOST_MINISIGN") {
            return Ok((path.into(), None));
        }
        let on_path = Command::new("minisign").arg("-v").stdin(Stdio::null()).output();
        if on_path.is_ok() {
            return Ok(("minisign".into(), None));
        }
        unpacked()
    })
}

/// Debian's package, unpacked and not installed.
fn unpacked() -> Result<(PathBuf, Option<PathBuf>), String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("minisign");
    let root = dir.join("root");
    if !root.join("usr/bin/minisign").exists() {
        std::fs::create_dir_all(&root).map_err(|error| error.to_string())?;
        run(Command::new("apt-get")
            .args(["download", "minisign", "libsodium23"])
            .current_dir(&dir))?;
        let packages = std::fs::read_dir(&dir).map_err(|error| error.to_string())?;
        for package in packages.flatten().map(|entry| entry.path()) {
            if package.extension().is_some_and(|end| end == "deb") {
                run(Command::new("dpkg").arg("-x").args([&package, &root]))?;
            }
        }
    }
    let libraries = std::fs::read_dir(root.join("usr/lib")).map_err(|error| error.to_string())?;
    let libraries = libraries.flatten().map(|entry| entry.path()).next();
    Ok((root.join("usr/bin/minisign"), libraries))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{:?} does not start: {error}", command.get_program()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Runs the public tool in the machine's directory: whether it succeeded, and all its output.
fn minisign(machine: &TestEnv, args: &[&str]) -> Option<(bool, String)> {
    let (program, libraries) = match tool() {
        Ok(tool) => tool,
        Err(why) => {
            let _ = writeln!(
                std::io::stderr(),
                "minisign cannot be had here, so nothing is compared with it: {why}"
            );
            return None;
        }
    };
    let mut command = Command::new(program);
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let output = command
        .args(args)
        .current_dir(machine.cwd())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn the_public_tool_verifies_ours_and_prints_the_statement() {
    let (machine, key) = signed();
    let args = ["-V", "-H", "-m", "plugin.wasm", "-P", &key];
    let Some((fine, said)) = minisign(&machine, &args) else {
        return;
    };
    assert!(fine, "{said}");
    let plugin = agenthost::plugin::PluginInfo::open(&machine.cwd().join("plugin.wasm")).unwrap();
    let statement = Statement::of(&plugin).unwrap().text().unwrap();
    assert!(said.contains(&format!("Trusted comment: {statement}")), "{said}");

    // It reads our keys, too: the public one as a file, the plain secret one to sign with.
    let (public, secret) = (keys_dir(&machine).join("acme.pub"), keys_dir(&machine).join("acme.key"));
    let (public, secret) = (public.display().to_string(), secret.display().to_string());
    let (fine, said) = minisign(&machine, &["-V", "-m", "plugin.wasm", "-p", &public]).unwrap();
    assert!(fine, "{said}");
    let (fine, said) = minisign(&machine, &["-S", "-W", "-m", "plugin.wasm", "-s", &secret]).unwrap();
    assert!(fine, "{said}");
    let document = machine
        .run(["key", "verify", "plugin.wasm", "--public-key", &key, "--json"])
        .json(0);
    assert_eq!(document["statement"], Value::Null);
    assert!(
        document["comment"].as_str().unwrap().contains("file:plugin.wasm"),
        "{document}"
    );

    machine.write("plugin.wasm", "other");
    let (fine, _) = minisign(&machine, &args).unwrap();
    assert!(!fine);
}

#[test]
fn we_verify_what_the_public_tool_signs() {
    let (machine, _) = with_key();
    let make = ["-G", "-W", "-p", "tool.pub", "-s", "tool.key"];
    let Some((fine, said)) = minisign(&machine, &make) else {
        return;
    };
    assert!(fine, "{said}");
    let sign = |more: &[&str]| {
        let args = [&["-S", "-W", "-m", "plugin.wasm", "-s", "tool.key"], more].concat();
        let (fine, said) = minisign(&machine, &args).unwrap();
        assert!(fine, "{said}");
        verify(&machine, "tool.pub")
    };
    let output = sign(&[]);
    assert_eq!(output.code, 0, "{output}");
    assert!(
        output
            .stdout
            .contains("signed the bytes, and says nothing of what they are"),
        "{output}"
    );

    let plugin = agenthost::plugin::PluginInfo::open(&machine.cwd().join("plugin.wasm")).unwrap();
    let mut statement = Statement::of(&plugin).unwrap();
    let output = sign(&["-t", &statement.text().unwrap()]);
    assert_eq!(output.code, 0, "{output}");
    assert!(output.stdout.contains("signed acme:competitor 1.2.0"), "{output}");
    statement.version = "1.3.0".parse().unwrap();
    let output = sign(&["-t", &statement.text().unwrap()]);
    assert!(
        output.error(4).contains("the signed statement has the version 1.3.0"),
        "{output}"
    );
    let output = sign(&["-l"]);
    assert!(output.error(4).contains("in the old form"), "{output}");

    // Its plain key signs here, too.
    let dir = keys_dir(&machine);
    for end in ["key", "pub"] {
        std::fs::copy(
            machine.cwd().join(format!("tool.{end}")),
            dir.join(format!("tool.{end}")),
        )
        .unwrap();
    }
    std::fs::set_permissions(dir.join("tool.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let key = keys::open(&dir, "tool", || unreachable!()).unwrap();
    signature::sign_file(&machine.cwd().join("plugin.wasm"), &key).unwrap();
    let (fine, said) = minisign(&machine, &["-V", "-H", "-m", "plugin.wasm", "-p", "tool.pub"]).unwrap();
    assert!(fine && said.contains("\"name\":\"acme:competitor\""), "{said}");
}
