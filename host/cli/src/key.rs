//! `agenthost key`: creates keys, signs plugins, and verifies signatures.
//!
//! A password comes from AGENTHOST_KEY_PASSWORD or from the terminal, without echo; never from stdin or a flag, which
//! other people or programs could see.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::output::Printer;
use super::terminal::indented;
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::printable::one_line;
use agenthost::registry::PublicKeyError;
use agenthost::registry::asks::Asks;
use agenthost::registry::keys;
use agenthost::registry::signature::{self, PublicKey, SecretKey, Verified};
use agenthost::registry::statement::Statement;

const PASSWORD: &str = "AGENTHOST_KEY_PASSWORD";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create a signing key and print its public half
    ///
    /// NAME.key and NAME.pub are stored in ~/.config/agenthost/keys, in the formats of minisign. The password is read
    /// from AGENTHOST_KEY_PASSWORD, or asked for twice on the terminal.
    New {
        /// The key's name: lowercase letters, digits and dashes
        name: String,
        /// Store the secret half without a password
        #[arg(long)]
        no_password: bool,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// List your keys
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Sign a plugin and write PLUGIN.wasm.minisig beside it
    ///
    /// The signature covers its identity and the capabilities that it requests.
    Sign {
        /// A .wasm file
        plugin: PathBuf,
        /// The key's name
        #[arg(long, value_name = "NAME")]
        key: String,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Verify a plugin's signature and the statement in it
    Verify {
        /// A .wasm file
        plugin: PathBuf,
        /// The signer's public key: a line that begins with RW, or a .pub file
        #[arg(long, value_name = "KEY|FILE")]
        public_key: String,
        /// The signature file [default: PLUGIN.wasm.minisig]
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    pub(super) fn json(&self) -> bool {
        match &self.command {
            KeyCommand::New { json, .. }
            | KeyCommand::List { json }
            | KeyCommand::Sign { json, .. }
            | KeyCommand::Verify { json, .. } => *json,
        }
    }
}

pub(super) fn key(args: &Args, env: &Env, printer: &Printer) -> Result<ExitCode> {
    match &args.command {
        KeyCommand::New {
            name,
            no_password,
            json,
        } => new(name, *no_password, *json, env, printer)?,
        KeyCommand::List { json } => list(*json, env, printer)?,
        KeyCommand::Sign { plugin, key, json } => sign(&env.cwd().join(plugin), key, *json, env, printer)?,
        KeyCommand::Verify {
            plugin,
            public_key,
            signature,
            json,
        } => {
            let plugin = env.cwd().join(plugin);
            let signature = match signature {
                Some(file) => env.cwd().join(file),
                None => signature::beside(&plugin),
            };
            let verified = signature::verify_file(&plugin, &signature, &public(public_key, env)?)?;
            report(&plugin, &verified, *json, printer)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn new(name: &str, no_password: bool, json: bool, env: &Env, printer: &Printer) -> Result<()> {
    let dir = dir(env)?;
    let password = match no_password {
        true => None,
        false => Some(new_password(name, env)?),
    };
    let key = keys::create(&dir, name, password.as_ref())?;
    let (secret, public) = (keys::secret_path(&dir, name), keys::public_path(&dir, name));
    if json {
        return printer.data(&json!({
            "format": 1,
            "name": name,
            "id": key.id(),
            "public_key": key,
            "encrypted": !no_password,
            "secret_file": secret,
            "public_file": public,
        }));
    }
    printer.raw(&key.to_string())?;
    printer.say(&format!(
        "made the key {}; its secret half is in {}, which is yours alone: keep a copy of it in a safe place",
        key.id(),
        secret.display()
    ));
    printer.say(&format!(
        "sign with `agenthost push PLUGIN --key {name}`, or a file with `agenthost key sign`"
    ));
    Ok(())
}

fn list(json: bool, env: &Env, printer: &Printer) -> Result<()> {
    let dir = dir(env)?;
    let keys = keys::list(&dir)?;
    if json {
        let keys = keys.iter().map(
            |key| json!({"name": key.name, "id": key.public.id(), "public_key": key.public, "secret": key.secret}),
        );
        return printer.data(&json!({"format": 1, "keys": keys.collect::<Vec<_>>()}));
    }
    if keys.is_empty() {
        printer.say(&format!(
            "there are no keys in {}; make one with `agenthost key new NAME`",
            dir.display()
        ));
    }
    let width = keys.iter().map(|key| key.name.len()).max().unwrap_or(0);
    for key in &keys {
        let note = if key.secret { "" } else { "  (public half only)" };
        printer.text(format!("{:<width$}  {}{note}", key.name, key.public))?;
    }
    Ok(())
}

/// Opens the secret half of a key of this user, for `push`.
pub(super) fn secret(name: &str, env: &Env) -> Result<SecretKey> {
    Ok(keys::open(&dir(env)?, name, || old_password(name, env))?)
}

fn sign(plugin: &Path, name: &str, json: bool, env: &Env, printer: &Printer) -> Result<()> {
    let secret = secret(name, env)?;
    let statement = signature::sign_file(plugin, &secret)?;
    let file = signature::beside(plugin);
    if json {
        return printer.data(&json!({
            "format": 1,
            "file": file,
            "id": secret.public().id(),
            "public_key": secret.public(),
            "statement": statement,
        }));
    }
    printer.path(&file)?;
    printer.say(&format!("signed {}, as {}", said(&statement), secret.public().id()));
    Ok(())
}

fn report(plugin: &Path, verified: &Verified, json: bool, printer: &Printer) -> Result<()> {
    if json {
        return printer.data(&json!({
            "format": 1,
            "plugin": plugin,
            "id": verified.key.id(),
            "public_key": verified.key,
            "statement": verified.statement,
            "comment": match &verified.statement {
                Some(_) => Value::Null,
                None => verified.comment.as_str().into(),
            },
        }));
    }
    let id = verified.key.id();
    match &verified.statement {
        Some(statement) => {
            printer.text(format!("{id} signed {}", said(statement)))?;
            printer.text(format!("  digest: {}", statement.digest))?;
            for asked in Asks::default().changes(&statement.asks) {
                let value = asked.new.unwrap_or_default();
                printer.text(format!("  {}: {}", asked.what, indented(&value, 4)))?;
            }
        }
        None => {
            printer.text(format!("{id} signed the bytes, and says nothing of what they are"))?;
            printer.text(format!("  comment: {}", indented(&verified.comment, 4)))?;
        }
    }
    Ok(())
}

fn said(statement: &Statement) -> String {
    format!("{} {}", statement.name, statement.version)
}

/// Parses a public key, or reads it from the file of that name.
fn public(text: &str, env: &Env) -> Result<PublicKey> {
    let error: Error = match text.parse() {
        Ok(key) => return Ok(key),
        Err(error) => PublicKeyError::into(error),
    };
    let path = env.cwd().join(text);
    match fs::metadata(&path) {
        Ok(meta) if meta.is_file() && meta.len() <= 4 << 10 => {
            let text = fs::read_to_string(&path)
                .map_err(|error| Error::usage(format!("cannot read the key {}: {error}", path.display())))?;
            text.parse()
                .map_err(|error: PublicKeyError| Error::from(error).at(&path))
        }
        Ok(_) => Err(error.at(&path)),
        Err(_) => Err(error.context(&format!("`{}`, which is not a file either", text.escape_debug()))),
    }
}

/// Returns the directory `keys` beside the operator's own configuration.
fn dir(env: &Env) -> Result<PathBuf> {
    let file = env.user_file();
    let dir = file.as_deref().and_then(Path::parent);
    dir.map(|dir| dir.join("keys")).ok_or_else(|| {
        Error::host("there is no home directory to keep keys in")
            .with_hint("Set HOME or XDG_CONFIG_HOME to an absolute path.")
    })
}

fn new_password(name: &str, env: &Env) -> Result<SecretString> {
    if let Some(password) = env.var(PASSWORD) {
        return Ok(password.into());
    }
    let without = "Set AGENTHOST_KEY_PASSWORD, run it in a terminal, or keep the key plain with --no-password.";
    let first = ask(&format!("Password for the new key {name}: "), without)?;
    let second = ask("The same once more: ", without)?;
    match first.expose_secret() == second.expose_secret() {
        true => Ok(first),
        false => Err(Error::usage("the two passwords differ").with_hint("Run it again; nothing was made.")),
    }
}

fn old_password(name: &str, env: &Env) -> Result<SecretString> {
    match env.var(PASSWORD) {
        Some(password) => Ok(password.into()),
        None => ask(
            &format!("Password of the key {name}: "),
            "Set AGENTHOST_KEY_PASSWORD, or run it in a terminal.",
        ),
    }
}

fn ask(prompt: &str, without: &str) -> Result<SecretString> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::usage("a password is needed, and there is no terminal to ask on").with_hint(without));
    }
    rpassword::prompt_password(one_line(prompt))
        .map(SecretString::from)
        .map_err(|error| Error::usage(format!("cannot read a password: {error}")).with_hint(without))
}
