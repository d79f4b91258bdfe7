//! Credentials left by `docker login`: entries of `config.json`, or the helper programs that it names.
//!
//! Bounds: 1 MiB for the file, 10 s for a helper, and 64 KiB for its output. A helper is a program on the `PATH` that
//! the operator configured. It receives only the host, and does not inherit the user name, password and token of
//! [`auth`](super::auth).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::credentials::{Credentials, PASSWORD, Secret, TOKEN, USERNAME};
use crate::error::CredentialsError;
use agenthost_config::Env;

const MAX_FILE: u64 = 1 << 20;
const MAX_ANSWER: u64 = 64 << 10;
const HELPER_LIMIT: Duration = Duration::from_secs(10);

/// The user name that marks a secret as an identity token.
const IDENTITY_USER: &str = "<token>";
/// The legacy key of docker's own registry.
const HUB: &str = "https://index.docker.io/v1/";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, AuthEntry>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthEntry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    #[serde(default)]
    username: String,
    secret: String,
}

/// Returns docker's credentials for `host`; anonymous ones if docker has no configuration or no entry.
pub(super) async fn find(env: &Env, host: &str) -> Result<Credentials, CredentialsError> {
    let dir = match env.var("DOCKER_CONFIG") {
        Some(dir) => env.cwd().join(dir),
        None => match env.home() {
            Some(home) => home.join(".docker"),
            None => return Ok(Credentials::anonymous()),
        },
    };
    let path = dir.join("config.json");
    let Some(config) = read(&path).await? else {
        return Ok(Credentials::anonymous());
    };
    let helper = config.cred_helpers.get(host).filter(|name| !name.is_empty());
    let store = Some(&config.creds_store).filter(|name| !name.is_empty());
    if let Some(name) = helper.or(store)
        && let Some(found) = ask(env, name, host, &path).await?
    {
        return Ok(found);
    }
    let entry = config.auths.into_iter().find(|(key, _)| is_for(key, host));
    match entry.map(|(_, entry)| secret_of(entry)) {
        None | Some(Ok(None)) => Ok(Credentials::anonymous()),
        Some(Ok(Some(secret))) => Ok(Credentials::new(secret, path.display().to_string())),
        Some(Err(problem)) => Err(CredentialsError::Entry {
            path,
            host: host.to_owned(),
            problem,
        }),
    }
}

async fn read(path: &Path) -> Result<Option<Config>, CredentialsError> {
    let failed = |source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text).await.map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(CredentialsError::TooLarge {
            path: path.to_owned(),
            limit: MAX_FILE,
        });
    }
    // The parser's message is not repeated, because it may contain a secret.
    let config = serde_json::from_slice(&text).map_err(|error| CredentialsError::Syntax {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })?;
    Ok(Some(config))
}

/// Returns whether a key of the file means `host`; a key may be an address.
fn is_for(key: &str, host: &str) -> bool {
    let hub = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let bare = bare.split('/').next().unwrap_or_default();
    bare.eq_ignore_ascii_case(host) || (hub(bare) && hub(host))
}

fn secret_of(entry: AuthEntry) -> Result<Option<Secret>, &'static str> {
    if !entry.registrytoken.is_empty() {
        return Ok(Some(Secret::Token(entry.registrytoken.into())));
    }
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Secret::Identity(entry.identitytoken.into())));
    }
    let (user, password) = if entry.auth.is_empty() {
        (entry.username, entry.password)
    } else {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(entry.auth.trim())
            .map_err(|_| "is not base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "is not text")?;
        let (user, password) = text.split_once(':').ok_or("has no colon between name and password")?;
        (user.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    Ok((!user.is_empty()).then(|| Secret::Password {
        user,
        password: password.into(),
    }))
}

/// Runs a helper; `None` if it does not know the host.
async fn ask(env: &Env, name: &str, host: &str, path: &Path) -> Result<Option<Credentials>, CredentialsError> {
    let program = format!("docker-credential-{name}");
    let failed = |problem: String| CredentialsError::Helper {
        program: program.clone(),
        path: path.to_owned(),
        problem,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.bytes().all(plain) {
        return Err(CredentialsError::HelperName { path: path.to_owned() });
    }
    let hub = is_for(HUB, host);
    let key = if hub { HUB } else { host };
    let (status, answer) = run(env, &program, key).await.map_err(failed)?;
    if !status.success() {
        // This message is part of the helpers' protocol.
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("failed with {status}")));
    }
    let answer: HelperOutput =
        serde_json::from_slice(&answer).map_err(|_| failed("did not answer as helpers do".to_owned()))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let secret = match answer.username.as_str() {
        IDENTITY_USER => Secret::Identity(answer.secret.into()),
        _ => Secret::Password {
            user: answer.username,
            password: answer.secret.into(),
        },
    };
    Ok(Some(Credentials::new(secret, program)))
}

async fn run(env: &Env, program: &str, key: &str) -> Result<(std::process::ExitStatus, Vec<u8>), String> {
    let mut command = Command::new(program_path(env, program)?);
    command
        .arg("get")
        .env_remove(USERNAME)
        .env_remove(PASSWORD)
        .env_remove(TOKEN)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("does not start: {error}"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its input fails with its exit status.
            let _ = stdin.write_all(key.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(MAX_ANSWER).read_to_end(&mut answer).await;
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        Ok((status, answer))
    };
    tokio::time::timeout(HELPER_LIMIT, talk)
        .await
        .map_err(|_| format!("did not answer within {HELPER_LIMIT:?}"))?
}

/// Finds a program on the environment's `PATH`. Relative parts are ignored, because they would mean the working
/// directory.
fn program_path(env: &Env, program: &str) -> Result<PathBuf, String> {
    std::env::split_paths(env.var("PATH").unwrap_or_default())
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| "is not on the PATH".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;
    use agenthost_core::error::{Classify as _, ErrorClass};

    /// A docker configuration and optionally a helper `docker-credential-test`.
    fn docker(config: &str, helper: Option<&str>) -> (tempfile::TempDir, Env) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        if let Some(script) = helper {
            let path = dir.path().join("docker-credential-test");
            // Written by another process. A child process of another test could inherit a file handle opened here for
            // writing, and the helper could not be run.
            let write = std::process::Command::new("sh")
                .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\"", "sh"])
                .args([path.as_os_str(), script.as_ref()])
                .status();
            assert!(write.unwrap().success());
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let path = dir.path().display().to_string();
        let vars = [
            ("DOCKER_CONFIG", path.clone()),
            ("PATH", format!("{path}:/usr/bin:/bin")),
        ];
        let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value));
        let env = Env::new(vars.collect(), "/", None);
        (dir, env)
    }

    fn password(found: &Credentials) -> Option<(String, String)> {
        match found.secret()? {
            Secret::Password { user, password } => Some((user.clone(), password.expose_secret().to_owned())),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn entries_are_found_however_their_key_is_written() {
        // ada:open:sesame
        let entry = r#"{"auth": "YWRhOm9wZW46c2VzYW1l"}"#;
        for key in [
            "r.example:5000",
            "https://r.example:5000",
            "https://r.example:5000/v2/",
            "R.example:5000",
        ] {
            let (_dir, env) = docker(&format!(r#"{{"auths": {{"{key}": {entry}}}, "psFormat": "x"}}"#), None);
            let found = find(&env, "r.example:5000").await.unwrap();
            assert_eq!(password(&found).unwrap(), ("ada".into(), "open:sesame".into()), "{key}");
            assert!(find(&env, "r.example").await.unwrap().secret().is_none());
            assert!(!format!("{found:?}").contains("sesame"));
        }
        let (_dir, env) = docker(&format!(r#"{{"auths": {{"{HUB}": {entry}}}}}"#), None);
        assert!(find(&env, "docker.io").await.unwrap().secret().is_some());
        let (_dir, env) = docker(
            r#"{"auths": {"r.example": {"identitytoken": "i", "auth": "YTpi"}}}"#,
            None,
        );
        let found = find(&env, "r.example").await.unwrap();
        assert!(matches!(found.secret(), Some(Secret::Identity(token)) if token.expose_secret() == "i"));
    }

    #[tokio::test]
    async fn no_configuration_is_nobody_and_a_broken_one_is_named_without_its_text() {
        let (dir, env) = docker("{}", None);
        assert!(find(&env, "r.example").await.unwrap().secret().is_none());
        for text in [
            r#"{"auths": {"r.example": {"auth": "s3cret!"}}}"#,
            r#"{"auths": {"r.example": {"auth": "czNjcmV0"}}}"#,
            r#"{"auths": "s3cret"}"#,
        ] {
            fs::write(dir.path().join("config.json"), text).unwrap();
            let error = find(&env, "r.example").await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Config);
            assert!(error.to_string().contains("config.json"), "{error}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
        fs::remove_file(dir.path().join("config.json")).unwrap();
        assert!(find(&env, "r.example").await.unwrap().secret().is_none());
    }

    #[tokio::test]
    async fn helpers_are_asked_for_the_host_and_win_over_the_file() {
        let says =
            r#"read -r host || true; printf '{"ServerURL":"%s","Username":"%s","Secret":"pw"}' "$host" "$1-$host""#;
        let config = r#"{"auths": {"r.example": {"auth": "YTpi"}}, "credHelpers": {"r.example": "test"}}"#;
        let (_dir, env) = docker(config, Some(says));
        let found = find(&env, "r.example").await.unwrap();
        assert_eq!(password(&found).unwrap(), ("get-r.example".into(), "pw".into()));
        assert_eq!(found.source(), Some("docker-credential-test"));

        let token = r#"echo '{"Username":"<token>","Secret":"id"}'"#;
        let (_dir, env) = docker(r#"{"credsStore": "test"}"#, Some(token));
        let found = find(&env, "any.example").await.unwrap();
        assert!(matches!(found.secret(), Some(Secret::Identity(_))));

        let unknown = "echo 'credentials not found in native keychain'; exit 1";
        let config = r#"{"auths": {"r.example": {"auth": "YTpi"}}, "credsStore": "test"}"#;
        let (_dir, env) = docker(config, Some(unknown));
        assert_eq!(password(&find(&env, "r.example").await.unwrap()).unwrap().0, "a");
    }

    #[tokio::test]
    async fn a_helper_that_fails_is_named() {
        for (script, why) in [
            (Some("echo s3cret; exit 3"), "failed with exit status: 3"),
            (Some("echo s3cret"), "did not answer as helpers do"),
            (None, "is not on the PATH"),
        ] {
            let (_dir, env) = docker(r#"{"credsStore": "test"}"#, script);
            let error = find(&env, "r.example").await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
        let (_dir, env) = docker(r#"{"credsStore": "../evil"}"#, None);
        assert!(
            find(&env, "r.example")
                .await
                .unwrap_err()
                .to_string()
                .contains("not the name of a program")
        );
    }
}
