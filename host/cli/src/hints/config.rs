//! Hints for errors about configuration files, keys and trust.

use std::io::ErrorKind;

use agenthost::config::{ConfigError, EntryProblem, FileError, TrustError};
use agenthost::error::Error;
use agenthost::printable::shell_word;

/// Returns the command line's own hint; `None` if the library's is the right one.
pub(super) fn hint(error: &Error) -> Option<String> {
    let config = error.downcast_ref().and_then(of_config);
    config.or_else(|| error.downcast_ref().and_then(of_trust))
}

fn of_config(error: &ConfigError) -> Option<String> {
    match error {
        ConfigError::File(FileError::Read {
            named: true, source, ..
        }) if source.kind() == ErrorKind::NotFound => Some(
            "Name a file that exists, or leave out --config (and AGENTHOST_CONFIG) to use the agenthost.toml found \
             upwards from here."
                .to_owned(),
        ),
        ConfigError::File(FileError::Entry {
            section,
            problem: EntryProblem::Name(_),
            ..
        }) => match section.as_str() {
            "grants" => Some(
                "`agenthost inspect PLUGIN` shows the plugin's name; list the models that it may ask for in its \
                 section, as models = [\"fast\"]."
                    .to_owned(),
            ),
            "sub-agents" => Some("`agenthost inspect PLUGIN` shows the plugin's name.".to_owned()),
            _ => None,
        },
        ConfigError::JournalOutside { .. } => Some(
            "Name a file below the folder, or set it in your own file, with --journal or with AGENTHOST_JOURNAL."
                .to_owned(),
        ),
        _ => None,
    }
}

fn of_trust(error: &TrustError) -> Option<String> {
    let hint = match error {
        TrustError::Provider { file, key, fields, .. } => format!(
            "Read {file}, then run `agenthost trust {}` if {} may go there.",
            shell_word(file),
            if key.is_some() && fields.is_empty() {
                "the key"
            } else {
                "they"
            }
        ),
        TrustError::Directory { file, .. } => format!(
            "Read {file}, then run `agenthost trust {}` if the plugin may have that directory.",
            shell_word(file)
        ),
        TrustError::Schedule { file, .. } => format!(
            "Read {file}, then run `agenthost trust {}` if the schedule may run.",
            shell_word(file)
        ),
        TrustError::PluginName { folder, .. } => format!(
            "Run `agenthost trust {}` if the plugins there may have what is granted to them, or give this one each \
             directory with --dir.",
            shell_word(folder)
        ),
        TrustError::Crate { shown, .. } => format!(
            "Read them, then run `agenthost trust {}` if they may run.",
            shell_word(shown)
        ),
        TrustError::Link { target, .. } => format!(
            "Name that file or folder itself if you mean it: `agenthost trust {}`.",
            shell_word(&target.to_string_lossy())
        ),
        TrustError::ReadRecord { .. } | TrustError::BrokenRecord { .. } | TrustError::RecordFormat { .. } => {
            "Remove the file, then run `agenthost trust` again where it is needed.".to_owned()
        }
        _ => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use agenthost::config::{Config, Env, trust};

    fn hint_for(file: &str, text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(file), text).unwrap();
        let env = Env::new([].into(), dir.path(), Some(dir.path().join("home")));
        let error = Config::load_from(&env, file.as_ref()).unwrap_err();
        super::super::hint(&error.into()).unwrap()
    }

    #[test]
    fn a_refusal_names_the_command_that_allows_it() {
        let pair = "[models]\na = \"x/y\"\n[providers.x]\nkind = \"openai\"\nbase-url = \"https://x.example\"";
        assert_eq!(
            hint_for("a file.toml", pair),
            "Read a file.toml, then run `agenthost trust 'a file.toml'` if they may go there."
        );
        assert_eq!(
            hint_for("b.toml", "[grants.\"a:b\"]\ndirs = [\"/srv::/data\"]"),
            "Read b.toml, then run `agenthost trust b.toml` if the plugin may have that directory."
        );
        assert!(hint_for("c.toml", "[journal]\nfile = \"/j\"").contains("--journal"));
        assert!(hint_for("d.toml", "[grants.a]").contains("agenthost inspect PLUGIN"));
        assert_eq!(
            hint_for("e.toml", "[limits]\ncall = 1"),
            "Did you mean `calls`?",
            "the library's own"
        );
    }

    #[test]
    fn a_missing_file_and_a_damaged_record_have_their_commands() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::new([].into(), dir.path(), Some(dir.path().join("home")));
        let missing = Config::load_from(&env, "missing.toml".as_ref()).unwrap_err();
        assert!(hint(&missing.into()).unwrap().contains("leave out --config"));
        let record = env.state_dir().unwrap().join("trust.toml");
        fs::create_dir_all(record.parent().unwrap()).unwrap();
        fs::write(record, "format = 9").unwrap();
        let newer = trust::list(&env).unwrap_err();
        assert!(hint(&newer.into()).unwrap().contains("`agenthost trust`"));
    }
}
