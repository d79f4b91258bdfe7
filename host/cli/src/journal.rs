//! Locating the journal of the command line, and opening it for reading. Only runs write to it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::global::Global;
use agenthost::config::{Config, Env};
use agenthost::error::{Error, Result};
use agenthost::journal::sqlite::Sqlite;
use agenthost::journal::{JournalStore, RunKind, RunRecord};

/// The directory of a project's journal, beside its configuration.
const PROJECT_DIR: &str = ".agenthost";
/// The file name of a journal.
const FILE: &str = "journal.db";

/// Returns the path of the journal: `given`, else the one in `[journal]`, else beside the project's configuration, else
/// in the user's state directory. `None` if the journal is disabled or has no place.
pub(super) fn journal_path(config: &Config, env: &Env, given: Option<&Path>) -> Option<PathBuf> {
    if let Some(given) = given {
        return Some(env.cwd().join(given));
    }
    let journal = config.journal();
    if !journal.enabled {
        return None;
    }
    if let Some(file) = &journal.file {
        return Some(file.clone());
    }
    match config.project_file().and_then(Path::parent) {
        Some(project) => Some(project.join(PROJECT_DIR).join(FILE)),
        None => Some(env.state_dir()?.join(FILE)),
    }
}

/// A journal, or the reason why there is none.
pub(super) enum Found {
    /// A journal for reading.
    Journal(Box<dyn JournalStore>),
    /// Nothing is recorded yet; the reason is a sentence fragment.
    Nothing(String),
}

impl Found {
    /// Opens the journal that the command line and the configuration name.
    pub(super) fn open(global: &Global, config: &Config, env: &Env) -> Result<Self> {
        match journal_path(config, env, global.journal.as_deref()) {
            Some(path) => Self::at(&path),
            None => Ok(Self::Nothing(match config.journal().enabled {
                true => "there is no home directory for a journal".into(),
                false => "the journal is switched off in [journal]".into(),
            })),
        }
    }

    fn at(path: &Path) -> Result<Self> {
        Ok(match Sqlite::open_existing(path)? {
            Some(journal) => Self::Journal(Box::new(journal)),
            None => Self::Nothing(format!("there is no journal at {}", path.display())),
        })
    }

    /// Returns the journal, for a command that needs a run.
    ///
    /// # Errors
    ///
    /// Class `usage` if nothing is recorded.
    pub(super) fn needed(self) -> Result<Box<dyn JournalStore>> {
        match self {
            Self::Journal(journal) => Ok(journal),
            Self::Nothing(why) => Err(Error::usage(format!("no runs yet: {why}"))
                .with_hint("Run something first, or name another journal with --journal FILE.")),
        }
    }
}

/// Returns the run of this id, the beginning of an id, or `last`. An error names the journal at `path`.
pub(super) fn find(journal: &dyn JournalStore, path: Option<&Path>, id: &str) -> Result<RunRecord> {
    let found = journal.find(id);
    found.map_err(|error| match path {
        Some(path) => error.context(&format!("the journal {}", path.display())),
        None => error,
    })
}

/// Returns the input of the root task of a run; `None` for a batch, and if it was not kept.
pub(super) fn root_input(journal: &dyn JournalStore, record: &RunRecord) -> Result<Option<Value>> {
    if record.kind == RunKind::Batch {
        return Ok(None);
    }
    Ok(journal.task(&record.id, "root")?.and_then(|root| root.input))
}

/// Opens the journal, which must be there, and reads it on a thread that may block.
///
/// # Errors
///
/// As [`Found::needed`] and `read`.
pub(super) async fn read<T: Send + 'static>(
    global: &Global,
    config: &Config,
    env: &Env,
    read: impl FnOnce(&dyn JournalStore) -> Result<T> + Send + 'static,
) -> Result<T> {
    let Some(path) = journal_path(config, env, global.journal.as_deref()) else {
        return Found::open(global, config, env)?
            .needed()
            .and_then(|journal| read(&*journal));
    };
    let found = tokio::task::spawn_blocking(move || read(&*Found::at(&path)?.needed()?));
    found.await.map_err(|_| Error::host("the journal was not read"))?
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn path(user: &str, project: Option<&str>, given: Option<&str>) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for dir in ["home/.config/agenthost", "project/below"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::write(root.join("home/.config/agenthost/config.toml"), user).unwrap();
        if let Some(project) = project {
            std::fs::write(root.join("project/agenthost.toml"), project).unwrap();
        }
        let env = Env::new(BTreeMap::new(), root.join("project/below"), Some(root.join("home")));
        let config = Config::load(&env).unwrap();
        let path = journal_path(&config, &env, given.map(Path::new))?;
        Some(path.strip_prefix(&root).unwrap().display().to_string())
    }

    #[test]
    fn a_journal_is_found_by_flag_then_file_then_project_then_user() {
        let own = "[journal]\nfile = \"~/own.db\"";
        let is = |path: Option<String>, expected: &str| assert_eq!(path.as_deref(), Some(expected));
        is(path("", None, None), "home/.local/state/agenthost/journal.db");
        is(path("", Some(""), None), "project/.agenthost/journal.db");
        is(path(own, Some(""), None), "home/own.db");
        is(path(own, Some("[journal]\nfile = \"a.db\""), None), "project/a.db");
        is(path(own, Some(""), Some("b.db")), "project/below/b.db");
        let off = "[journal]\nenabled = false";
        assert_eq!(path(own, Some(off), None), None);
        is(path(own, Some(off), Some("b.db")), "project/below/b.db");
    }
}
