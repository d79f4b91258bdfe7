//! The guests, built once in a test process by one call of cargo.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use agenthost::plugin::{Digest, PluginInfo, build};
use serde_json::{Value, json};

/// The components of all guests and of the example plugins.
#[derive(Debug)]
pub struct Guests {
    components: BTreeMap<String, PathBuf>,
}

/// The workspace's root directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
}

/// Builds all guests at the first call, and reports it on stderr. Adds the compile target if it is missing.
///
/// # Panics
///
/// If cargo cannot build them; its messages are on stderr.
pub fn guests() -> &'static Guests {
    static GUESTS: OnceLock<Guests> = OnceLock::new();
    GUESTS.get_or_init(|| {
        let added = build::install_target(workspace()).unwrap_or_else(|error| panic!("{error}"));
        if added {
            let _ = writeln!(
                std::io::stderr(),
                "added the compile target {} with rustup",
                build::TARGET
            );
        }
        let mut components = examples();
        let competitor =
            build::build(&workspace().join("plugins/competitor")).unwrap_or_else(|error| panic!("{error}"));
        components.insert("competitor".to_owned(), competitor.path);
        Guests { components }
    })
}

/// The component of the plugin `name` of the workspace's `plugins/`, such as `market-scan`, beside those of all plugins
/// that it may start. Builds what it needs at the first call.
///
/// # Panics
///
/// When it cannot be built.
pub fn plugin(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    build_plugin(name, &mut built)
}

fn build_plugin(name: &str, built: &mut BTreeMap<String, PathBuf>) -> PathBuf {
    if let Some(path) = built.get(name) {
        return path.clone();
    }
    let dir = workspace().join("plugins").join(name);
    let component = build::build(&dir).unwrap_or_else(|error| panic!("{error}"));
    let bytes = std::fs::read(&component.path).unwrap();
    for below in PluginInfo::read(&bytes).unwrap().sub_agents {
        match below.plugin.name.split_once(':').unwrap() {
            ("agenthost", name) => build_plugin(&format!("std/{name}"), built),
            (_, name) => build_plugin(name, built),
        };
    }
    built.insert(name.to_owned(), component.path.clone());
    component.path
}

impl Guests {
    /// The component of the guest `name`, such as `asks`, or of the plugin `competitor`.
    ///
    /// # Panics
    ///
    /// If that guest does not exist.
    pub fn path(&self, name: &str) -> &Path {
        self.components
            .get(name)
            .unwrap_or_else(|| panic!("no guest is named {name}: {:?}", self.components.keys()))
    }

    /// The bytes of the component of the guest `name`.
    ///
    /// # Panics
    ///
    /// If that guest does not exist.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The names of all guests.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.components.keys().map(String::as_str)
    }
}

/// The folder of the guests' sources.
fn sources() -> PathBuf {
    workspace().join("tests/guests")
}

/// The WIT inside the source of the guest `name`.
///
/// # Panics
///
/// If that guest has none.
pub fn interface(name: &str) -> String {
    let source = std::fs::read_to_string(sources().join(name).with_extension("rs")).unwrap();
    let (_, after) = source.split_once("inline = r#\"").expect("an interface in WIT");
    let (wit, _) = after.split_once("\"#").unwrap();
    wit.trim().to_owned()
}

/// Writes the package that has each guest as an example, and returns its manifest. A file of the folder is a guest;
/// cargo's own discovery of examples would make programs of them, with a `main`.
fn package(target: &Path) -> PathBuf {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap().parse::<toml::Table>().unwrap();
    let shared = read(workspace().join("Cargo.toml"))["workspace"]["dependencies"].clone();
    let own = read(sources().join("Cargo.toml"));
    let dependencies = own["dependencies"].as_table().unwrap().keys().map(|name| {
        let mut dependency = shared[name].clone();
        if let Some(path) = dependency.get_mut("path") {
            *path = workspace().join(path.as_str().unwrap()).display().to_string().into();
        }
        (name.clone(), dependency)
    });
    let files = std::fs::read_dir(sources()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    let examples = files.iter().map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        json!({"name": name, "path": path, "crate-type": ["cdylib"]})
    });
    let lock = workspace().join("Cargo.lock");
    let manifest = json!({
        "package": {
            "name": "guests",
            "version": env!("CARGO_PKG_VERSION"),
            "edition": "2024",
            // The lock file below is a copy of this one.
            "metadata": {"lock": Digest::of(&std::fs::read(&lock).unwrap()).to_string()},
        },
        "dependencies": dependencies.collect::<toml::Table>(),
        "example": examples.collect::<Vec<_>>(),
        // Not a member of the workspace that it is below.
        "workspace": {},
    });
    let dir = target.join("guests");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("Cargo.toml");
    let text = toml::to_string(&manifest).unwrap();
    // A guest is built again when this file is newer.
    if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
        std::fs::write(&path, text).unwrap();
        std::fs::copy(lock, dir.join("Cargo.lock")).unwrap();
    }
    path
}

/// The components of the guests, by name.
fn examples() -> BTreeMap<String, PathBuf> {
    // A test is TARGET/debug/deps/all-…. Cargo marks a target directory only if it creates it, so no file tells.
    let test = std::env::current_exe().unwrap();
    let target = test
        .ancestors()
        .nth(3)
        .expect("a test runs from cargo's target directory");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--target", build::TARGET, "--examples"])
        .arg("--manifest-path")
        .arg(package(target))
        .arg("--target-dir")
        .arg(target)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    // The variables that the cargo running this test sets for its own build would make this one rebuild everything.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let own = [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_NET_",
            "CARGO_HTTP_",
            "CARGO_REGISTR",
            "CARGO_SOURCE_",
        ];
        let inherited = name.starts_with("CARGO") && !own.iter().any(|own| name.starts_with(own));
        if inherited || ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"].contains(&&*name) {
            cargo.env_remove(&*name);
        }
    }
    // The build of the plugins compiles the same dependencies: with the same flags that is done once.
    build::reproducibly(&mut cargo, workspace()).unwrap_or_else(|error| panic!("{error}"));
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "cargo cannot build the guests; see above");
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    messages
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["kind"][0] == "example")
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            let path = PathBuf::from(message["filenames"][0].as_str()?);
            Some((name, path))
        })
        .collect()
}
