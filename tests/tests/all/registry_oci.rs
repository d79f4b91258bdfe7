//! The registry's client against a registry that others wrote: Debian's `docker-registry`, and back with another client.
//!
//! The program is looked for in `AGENTHOST_DOCKER_REGISTRY` and on the `PATH`; if it is not found, the package is
//! fetched with apt into the target directory, which needs no rights. If that fails too, the test prints a note and is
//! skipped.
//!
//! The other client is `oras` for Python, imported by `python3` or by the program that `AGENTHOST_ORAS_PYTHON` names; without
//! it, skopeo. Without either, that half is skipped, and the test prints why.

use std::collections::BTreeMap;
use std::io::Seek as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agenthost::config::Env;
use agenthost::error::{Classify as _, ErrorClass};
use agenthost::plugin::{Digest, PluginInfo};
use agenthost::registry::cache::Cache;
use agenthost::registry::oci::{Credentials, Oci};
use agenthost::registry::statement::identity;
use agenthost::registry::{Publication, Published, RegistryError, Source as _, Tag};
use agenthost_tests::foreign::ForeignServer;
use agenthost_tests::guests::guests;
use agenthost_tests::optional;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

/// The group of the tests that need the registry.
const REGISTRY: &str = "docker-registry";
const REPOSITORY: &str = "plugins/acme/competitor";
/// `ada` with the password `open-sesame`, as the registry's file of users has it.
const USERS: &str = "ada:$2b$04$abcdefghijklmnopqrstuuXcjcm5avyCiJoD2uS24xa2lb6fjMB3G\n";

/// Runs a command to its end, for two minutes at most, and returns its output.
fn finished(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let mut log = tempfile::tempfile().unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log.try_clone().unwrap())
        .spawn()
        .map_err(|error| format!("{shown}: {error}"))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > Duration::from_mins(2) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{shown}: not done within two minutes"));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    log.rewind().unwrap();
    let text = std::io::read_to_string(log).unwrap();
    match status.success() {
        true => Ok(text),
        false => Err(format!("{shown}: {status}: {}", text.trim())),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// The registry's program, or why there is none.
fn program() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("AGENTHOST_DOCKER_REGISTRY") {
        return Ok(path.into());
    }
    if let Some(path) = on_path("docker-registry") {
        return Ok(path);
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker-registry");
    let program = dir.join("root/usr/bin/docker-registry");
    if program.is_file() {
        return Ok(program);
    }
    // Made aside and moved into place, so that what was interrupted is not taken for whole.
    let aside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    finished(
        Command::new("apt-get")
            .args(["download", "docker-registry"])
            .current_dir(aside.path()),
    )?;
    let package = std::fs::read_dir(aside.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .ok_or("apt-get left no package")?;
    finished(
        Command::new("dpkg")
            .arg("-x")
            .arg(package)
            .arg(aside.path().join("root")),
    )?;
    let _ = std::fs::rename(aside.path(), &dir);
    match program.is_file() {
        true => Ok(program),
        false => Err(format!("{} is not there", program.display())),
    }
}

/// The registry; it ends when this is dropped.
pub(super) struct Registry {
    _server: ForeignServer,
    host: String,
}

impl Registry {
    /// A registry for anybody, or for [`USERS`] alone.
    fn start(program: &Path, closed: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = program.to_path_buf();
        let server = ForeignServer::start(move |port| {
            let users = dir.path().join("users");
            std::fs::write(&users, USERS).unwrap();
            let mut config = json!({
                "version": 0.1,
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": dir.path().join("data")}},
                "http": {"addr": format!("127.0.0.1:{port}")},
            });
            if closed {
                config["auth"] = json!({"htpasswd": {"realm": "here", "path": users}});
            }
            // JSON is YAML, too.
            let file = dir.path().join("config.yml");
            std::fs::write(&file, config.to_string()).unwrap();
            let mut command = Command::new(&program);
            command.arg("serve").arg(&file).current_dir(dir.path());
            command
        });
        let host = server.address().to_string();
        Self { _server: server, host }
    }

    /// A registry without authentication, if the program is available; prints a note if it is not.
    pub(super) fn open() -> Option<Self> {
        match program() {
            Ok(program) => {
                optional::runs(REGISTRY);
                Some(Self::start(&program, false))
            }
            Err(why) => {
                optional::skipped(REGISTRY, why);
                None
            }
        }
    }

    /// The address on which it listens.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    fn oci(&self) -> Oci {
        Oci::new(&self.host, REPOSITORY, Credentials::anonymous()).unwrap()
    }
}

/// The real plugin.
fn competitor() -> (PluginInfo, Vec<u8>) {
    let bytes = guests().bytes("competitor");
    (PluginInfo::read(&bytes).unwrap(), bytes)
}

/// The same plugin with one more section, which changes nothing but the bytes.
fn rebuilt(bytes: &[u8]) -> (PluginInfo, Vec<u8>) {
    let bytes = [bytes, &[0, 3, 2, b'x', b'y']].concat();
    (PluginInfo::read(&bytes).unwrap(), bytes)
}

async fn publish(
    oci: &Oci,
    (plugin, bytes): &(PluginInfo, Vec<u8>),
    signatures: &[&str],
) -> Result<Published, RegistryError> {
    let (name, version) = identity(plugin).unwrap();
    let signatures: Vec<_> = signatures.iter().map(|text| (*text).to_owned()).collect();
    oci.publish(Publication {
        plugin,
        name: &name,
        version: &version,
        bytes,
        signatures: &signatures,
    })
    .await
}

#[tokio::test]
async fn a_plugin_goes_through_a_real_registry_and_comes_back_the_same() {
    let program = match program() {
        Ok(program) => program,
        Err(why) => return optional::skipped(REGISTRY, why),
    };
    optional::runs(REGISTRY);
    let registry = Registry::start(&program, false);
    let (oci, built) = (registry.oci(), competitor());
    let (_, version) = identity(&built.0).unwrap();
    let tag = Tag::Version(version.clone());
    assert!(oci.versions().await.unwrap().is_empty());
    let error = oci.find(&tag).await.unwrap_err();
    assert!(
        error.to_string().ends_with("there is no such plugin or version"),
        "{error}"
    );

    let published = publish(&oci, &built, &["first signature"]).await.unwrap();
    assert!(!published.existed);
    assert_eq!(oci.versions().await.unwrap(), vec![version.clone()]);
    let release = oci.find(&tag).await.unwrap();
    assert_eq!(release, published.release);
    let manifest = release.manifest.unwrap();
    assert_eq!(oci.find(&Tag::Manifest(manifest)).await.unwrap(), release);
    let again = publish(&oci, &built, &["first signature", "second signature"])
        .await
        .unwrap();
    assert!(again.existed);
    let mut signatures = oci.signatures(&release).await.unwrap();
    signatures.sort();
    assert_eq!(signatures, ["first signature", "second signature"]);
    let error = publish(&oci, &rebuilt(&built.1), &[]).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied, "{error}");

    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().join("plugins"));
    // A new transfer continues from the rest of an interrupted one.
    let half = built.1.len() / 2;
    let mut part = cache.receive(&release.digest, release.size).unwrap();
    part.write(&built.1[..half]).unwrap();
    drop(part);
    let (from, mut stream) = oci.open(&release, half as u64).await.unwrap();
    assert_eq!(from, half as u64, "the registry knows ranges");
    assert!(built.1[half..].starts_with(&stream.next().await.unwrap().unwrap()));
    drop(stream);
    oci.fetch(&release, &cache).await.unwrap();
    assert_eq!(cache.read(&release.digest).unwrap(), built.1);

    match another_client(&registry.host, &version.to_string(), dir.path()) {
        Some(Ok(bytes)) => assert!(bytes == built.1, "another client reads other bytes"),
        Some(Err(why)) => panic!("{why}"),
        None => optional::skipped(
            "oras",
            "found neither skopeo nor a Python with `oras` (python3, or the one that AGENTHOST_ORAS_PYTHON names)",
        ),
    }
    if let Some(python) = oras() {
        optional::runs("oras");
        pushed_by_oras(&python, &registry, &rebuilt(&built.1).1, dir.path()).await;
    }

    let host = registry.host.clone();
    drop(registry);
    let oci = Oci::new(&host, REPOSITORY, Credentials::anonymous()).unwrap();
    let error = oci.find(&tag).await.unwrap_err();
    assert!(error.to_string().contains("no connection to 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_real_registry_lets_in_who_logs_in_as_docker_does() {
    let program = match program() {
        Ok(program) => program,
        Err(why) => return optional::skipped(REGISTRY, why),
    };
    optional::runs(REGISTRY);
    let registry = Registry::start(&program, true);
    let built = competitor();
    let error = publish(&registry.oci(), &built, &[]).await.unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert!(
        error.to_string().contains("the registry requires a login: 401"),
        "{error}"
    );
    assert!(hint.contains(&format!("docker login {}", registry.host)), "{hint}");

    // `ada:open-sesame` in base64.
    let config = json!({"auths": {&registry.host: {"auth": "YWRhOm9wZW4tc2VzYW1l"}}});
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let env = |vars: &[(&str, &str)]| {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Env::new(vars.collect::<BTreeMap<_, _>>(), dir.path(), None)
    };
    let docker = env(&[("DOCKER_CONFIG", &dir.path().display().to_string())]);
    let variables = env(&[
        ("AGENTHOST_REGISTRY", &registry.host),
        ("AGENTHOST_REGISTRY_USERNAME", "ada"),
        ("AGENTHOST_REGISTRY_PASSWORD", "open-sesame"),
    ]);
    for (env, existed) in [(docker, false), (variables, true)] {
        let credentials = Credentials::find(&env, &registry.host).await.unwrap();
        let oci = Oci::new(&registry.host, REPOSITORY, credentials).unwrap();
        let published = publish(&oci, &built, &["signature"]).await.unwrap();
        assert_eq!(published.existed, existed);
        assert_eq!(oci.signatures(&published.release).await.unwrap(), ["signature"]);
    }
}

/// A Python that has `oras`.
fn oras() -> Option<PathBuf> {
    let named = std::env::var_os("AGENTHOST_ORAS_PYTHON").map(PathBuf::from);
    let mut pythons = named.into_iter().chain([PathBuf::from("python3")]);
    pythons.find(|python| finished(Command::new(python).args(["-c", "import oras"])).is_ok())
}

/// The component as another client reads it; `None` if another client is not installed.
fn another_client(host: &str, version: &str, dir: &Path) -> Option<Result<Vec<u8>, String>> {
    let place = format!("{host}/{REPOSITORY}:{version}");
    let out = dir.join("read-back");
    if let Some(python) = oras() {
        let script = "import sys, oras.client\n\
                      client = oras.client.OrasClient(hostname=sys.argv[1], insecure=True)\n\
                      client.pull(target=sys.argv[2], outdir=sys.argv[3])\n";
        let pull = finished(Command::new(python).args(["-c", script, host, &place]).arg(&out));
        return Some(pull.map(|_| std::fs::read(out.join("competitor.wasm")).unwrap()));
    }
    on_path("skopeo")?;
    let inspect = finished(
        Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{place}")),
    );
    let manifest = match inspect.map(|text| serde_json::from_str::<Value>(&text)) {
        Ok(Ok(manifest)) => manifest,
        Ok(Err(error)) => return Some(Err(error.to_string())),
        Err(why) => return Some(Err(why)),
    };
    let copy = finished(
        Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--src-tls-verify=false"])
            .arg(format!("docker://{place}"))
            .arg(format!("dir:{}", out.display())),
    );
    optional::runs("skopeo");
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let file = digest.strip_prefix("sha256:").unwrap();
    Some(copy.map(|_| std::fs::read(out.join(file)).unwrap()))
}

/// A plugin that another client pushed is read here.
async fn pushed_by_oras(python: &Path, registry: &Registry, bytes: &[u8], dir: &Path) {
    std::fs::write(dir.join("other.wasm"), bytes).unwrap();
    std::fs::write(dir.join("config.json"), "{}").unwrap();
    let place = format!("{}/{REPOSITORY}:9.0.0", registry.host);
    let script = "import sys, oras.client\n\
                  client = oras.client.OrasClient(hostname=sys.argv[1], insecure=True)\n\
                  client.push(target=sys.argv[2], files=['other.wasm:application/wasm'],\n\
                      manifest_config='config.json:application/vnd.wasm.config.v0+json')\n";
    finished(
        Command::new(python)
            .args(["-c", script, &registry.host, &place])
            .current_dir(dir),
    )
    .unwrap_or_else(|why| panic!("{why}"));
    let release = registry
        .oci()
        .find(&Tag::Version("9.0.0".parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(release.digest, Digest::of(bytes));
    let cache = Cache::new(dir.join("plugins"));
    registry.oci().fetch(&release, &cache).await.unwrap();
    assert!(cache.read(&release.digest).unwrap() == bytes);
}
