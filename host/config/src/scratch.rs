//! A temporary home, project and environment for one test, removed at its end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Config, ConfigError, Env};
use agenthost_core::error::{Classify, with_causes};

pub(super) struct Scratch {
    root: PathBuf,
    vars: BTreeMap<String, String>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "agenthost-config-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let root = fs::canonicalize(std::env::temp_dir()).unwrap().join(name);
        fs::create_dir_all(root.join("project")).unwrap();
        fs::create_dir_all(root.join("home/.config/agenthost")).unwrap();
        Self {
            root,
            vars: BTreeMap::new(),
        }
    }

    /// Creates a scratch with `text` as the project's file.
    pub(super) fn project(text: &str) -> Self {
        let scratch = Self::new();
        scratch.write("project/agenthost.toml", text);
        scratch
    }

    /// Adds the operator's own file.
    pub(super) fn user(self, text: &str) -> Self {
        self.write("home/.config/agenthost/config.toml", text);
        self
    }

    pub(super) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    pub(super) fn write_key(&self, path: &str, text: &str) {
        self.write(path, text);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn env(&self) -> Env {
        self.env_in("project")
    }

    pub(super) fn env_in(&self, cwd: &str) -> Env {
        Env::new(self.vars.clone(), self.path(cwd), Some(self.path("home")))
    }

    pub(super) fn load(&self) -> Config {
        Config::load(&self.env()).unwrap()
    }

    pub(super) fn load_error(&self) -> ConfigError {
        Config::load(&self.env()).unwrap_err()
    }

    /// Returns the message with its causes, and the hint, on two lines, without the path of this scratch.
    pub(super) fn shown(&self, error: &impl Classify) -> String {
        let text = match error.hint() {
            Some(hint) => format!("{}\n{hint}", with_causes(error)),
            None => with_causes(error),
        };
        text.replace(self.root.to_str().unwrap(), "")
    }

    /// Returns the error of loading the configuration.
    pub(super) fn complaint(&self) -> String {
        self.shown(&self.load_error())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
