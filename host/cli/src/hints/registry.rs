//! Hints for errors about registries, signatures, policies, lock files and vet files.

use agenthost::config::FileError;
use agenthost::error::Error;
use agenthost::registry::{
    CacheError, LockError, ManifestProblem, OciError, OciProblem, PolicyError, Refusal, RegistryError, SignatureError,
    SigningKeyError, StatementError, VetError,
};

/// Returns the command line's own hint; `None` if the library's is the right one.
pub(super) fn hint(error: &Error) -> Option<String> {
    let registry = error.downcast_ref().and_then(of_registry);
    registry
        .or_else(|| error.downcast_ref().and_then(of_oci))
        .or_else(|| error.downcast_ref().and_then(of_policy))
        .or_else(|| error.downcast_ref().and_then(of_signature))
        .or_else(|| error.downcast_ref().and_then(of_key))
        .or_else(|| error.downcast_ref().and_then(of_lock))
        .or_else(|| error.downcast_ref().and_then(of_vet))
        .or_else(|| error.downcast_ref().and_then(of_cache))
        .or_else(|| error.downcast_ref().and_then(of_statement))
}

fn of_registry(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::At { source, .. } => of_registry(source),
        RegistryError::NotLocked { reference, .. } | RegistryError::OtherVersion { reference, .. } => Some(format!(
            "Add it with `agenthost add {reference}`, which shows what it asks for."
        )),
        _ => None,
    }
}

fn of_oci(error: &OciError) -> Option<String> {
    match &error.problem {
        OciProblem::Manifest(ManifestProblem::Layers(_) | ManifestProblem::MediaType { .. }) => {
            Some("Is it a plugin? Plugins are pushed with `agenthost push`, or as components with `wkg`.".to_owned())
        }
        _ => None,
    }
}

fn of_cache(error: &CacheError) -> Option<String> {
    let hint = match error {
        CacheError::Missing { .. } => "Fetch it with `agenthost pull`.",
        CacheError::Tampered { .. } => {
            "The cache was changed. Remove the entry, then fetch it again with `agenthost pull`."
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_lock(error: &LockError) -> Option<String> {
    let hint = match error {
        LockError::Read { .. }
        | LockError::NotFile { .. }
        | LockError::Syntax { .. }
        | LockError::Format { .. }
        | LockError::Duplicate { .. } => {
            "Restore the file from version control; `agenthost add` and `update` write it."
        }
        LockError::Differs { .. } | LockError::Asks { .. } => {
            "The lock file was changed by hand or merged badly: restore it, or `agenthost add` the plugin again."
        }
        LockError::Identity(error) => return of_statement(error),
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_statement(error: &StatementError) -> Option<String> {
    match error {
        StatementError::NoVersion { .. } => {
            Some("Build it with `agenthost build`, which embeds the version of its Cargo.toml.".to_owned())
        }
        _ => None,
    }
}

fn of_signature(error: &SignatureError) -> Option<String> {
    let hint = match error {
        SignatureError::NotPrehashed { .. } => "Ask for one of `agenthost key sign`, or of `minisign -S` without -l.",
        SignatureError::Read { .. } => "Name the file with --signature, or make one with `agenthost key sign`.",
        SignatureError::Statement(error) => return of_statement(error),
        SignatureError::Of { source, .. } => return of_signature(source),
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_key(error: &SigningKeyError) -> Option<String> {
    let hint = match error {
        SigningKeyError::Missing { name, known, .. } => {
            let make = format!("Make it with `agenthost key new {name}`.");
            match known.as_slice() {
                [] => make,
                known => format!("{make} Those that are there: {}.", known.join(", ")),
            }
        }
        SigningKeyError::EmptyPassword => {
            "Give a password, or choose with --no-password to keep the key without one.".to_owned()
        }
        SigningKeyError::Secret { .. } => {
            "Restore the file from a backup, or make another key with `agenthost key new`.".to_owned()
        }
        _ => return None,
    };
    Some(hint)
}

fn of_policy(error: &PolicyError) -> Option<String> {
    match error {
        PolicyError::File(FileError::Entry { section, key, .. }) if section.starts_with("signers.") && key == "key" => {
            Some("Write the line that `agenthost key new` printed, or the second line of a .pub file.".to_owned())
        }
        PolicyError::Refused { refusal, .. } => match &**refusal {
            Refusal::Unsigned { rule } => Some(format!(
                "Ask its publisher for a signature (`agenthost key sign`), or {}.",
                rule.permit()
            )),
            Refusal::Unvetted { plugin, rule, .. } => Some(format!(
                "Look at it and vouch for it: `agenthost vet {plugin} --accept`. Or {}.",
                rule.permit()
            )),
            _ => None,
        },
        PolicyError::Signature(error) => of_signature(error),
        _ => None,
    }
}

fn of_vet(error: &VetError) -> Option<String> {
    match error {
        VetError::Syntax { .. } => {
            Some("Correct or restore the file; entries are made with `agenthost vet`.".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::hint;
    use agenthost::config::{Config, Env};
    use agenthost::error::Error;
    use agenthost::registry::project::Project;
    use agenthost::registry::vetted::VetFile;

    fn env(dir: &Path) -> Env {
        Env::new([].into(), dir, None)
    }

    fn project(dir: &Path) -> Result<Project, Error> {
        let env = env(dir);
        Ok(Project::open(&Config::load(&env)?, &env, None)?)
    }

    fn hint_of(error: impl Into<Error>) -> String {
        hint(&error.into()).unwrap()
    }

    #[test]
    fn a_plugin_that_is_not_locked_is_added_by_a_command() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path()).unwrap();
        let error = project.locked(&"acme:competitor@^1.2".parse().unwrap()).unwrap_err();
        assert_eq!(
            hint_of(error),
            "Add it with `agenthost add acme:competitor@^1.2`, which shows what it asks for."
        );
    }

    #[test]
    fn files_name_the_command_that_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("agenthost.lock"), "format = ").unwrap();
        assert!(hint_of(project(dir.path()).err().unwrap()).contains("`agenthost add` and `update` write it"));
        fs::write(dir.path().join("vetted.toml"), "format = ").unwrap();
        let broken = VetFile::load(&env(dir.path()), Path::new("vetted.toml")).unwrap_err();
        assert!(hint_of(broken).contains("`agenthost vet`"));
        let policy = "format = 1\n[signers.acme]\nkey = \"RW\"\npublishes = []\n";
        fs::write(dir.path().join("agenthost-policy.toml"), policy).unwrap();
        assert!(hint_of(project(dir.path()).err().unwrap()).contains("`agenthost key new` printed"));
    }

    #[test]
    fn a_refusal_of_a_policy_names_the_command_or_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let policy = "format = 1\n[paths]\nunsigned = \"deny\"\n";
        fs::write(dir.path().join("agenthost-policy.toml"), policy).unwrap();
        fs::create_dir_all(dir.path().join("crate/wit")).unwrap();
        let error = project(dir.path())
            .unwrap()
            .judge_crate(Path::new("crate"))
            .unwrap_err();
        assert_eq!(
            hint_of(error),
            "Run a signed and vetted .wasm file of it, or write unsigned = \"allow\" under [paths] in \
             agenthost-policy.toml."
        );
    }
}
