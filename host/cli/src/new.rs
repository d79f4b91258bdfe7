//! `agenthost new`: a project that builds, tests and runs as it is.
//!
//! Nothing is fetched, and only files in a new directory are written. Left out: version control, and making the project
//! a member of a workspace that does not claim it.

mod name;
mod project;
mod sdk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use self::name::Name;
use self::project::Kind;
use super::output::Printer;
use agenthost::config::Env;
use agenthost::config::trust::crates::CrateBuild;
use agenthost::error::{Error, Result, with_causes};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugin's name, such as `haiku`, or with its namespace: `acme:haiku`
    name: String,
    /// Make a plugin that starts sub-agents, with one of them
    #[arg(long, conflicts_with = "batch")]
    orchestrator: bool,
    /// Make a plugin that takes a list and gives a result for each item
    #[arg(long)]
    batch: bool,
    /// Make it in this directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// The namespace of the plugin's identity [default: local]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Print one JSON document with the path, the identity, the files and the next commands
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn new(args: &Args, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let kind = match (args.orchestrator, args.batch) {
        (true, _) => Kind::Orchestrator,
        (_, true) => Kind::Batch,
        _ => Kind::Leaf,
    };
    let name = Name::parse(&args.name, args.namespace.as_deref(), kind == Kind::Orchestrator)?;
    let parent = env.cwd().join(&args.path);
    // Links are resolved, since the directories above the project are searched.
    let parent = parent.canonicalize().map_err(|error| {
        Error::usage(format!("{}: {error}", parent.display()))
            .with_hint("Make the directory first, or give another one with --path.")
    })?;
    let dir = parent.join(&name.name);
    let files = project::write(kind, &name, &dir)?;
    // The new files are the operator's own; files above them that a build would read are not.
    if let Err(error) = CrateBuild::of(env, &dir).and_then(|build| build.accept_alone(env)) {
        printer.note(&format!(
            "that its crate may be built is not recorded: {}",
            with_causes(&error)
        ));
    }

    let id = format!("{}:{}", name.namespace, name.name);
    let next = [
        format!("cd {}", quoted(&args.path.join(&name.name))),
        "agenthost test".to_owned(),
        "agenthost run . --input @input.json".to_owned(),
    ];
    if args.json {
        printer.data(&json!({"format": 1, "path": dir, "id": id, "files": files, "next": next}))?;
        return Ok(ExitCode::SUCCESS);
    }
    printer.say(&format!("made {id}:"));
    for file in &files {
        printer.say(&format!("  {}", file.display()));
    }
    if dir.join(sdk::DIR).is_dir() {
        printer.say(&format!("  {}/: the SDK, version {}", sdk::DIR, sdk::VERSION));
    }
    printer.say("next:");
    for command in next {
        printer.say(&format!("  {command}"));
    }
    printer.path(&dir)?;
    Ok(ExitCode::SUCCESS)
}

/// Quotes a path for a shell if necessary.
fn quoted(path: &Path) -> String {
    let text = path.strip_prefix(".").unwrap_or(path).display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_typed_as_they_are_shown() {
        assert_eq!(quoted(Path::new("./haiku")), "haiku");
        assert_eq!(quoted(Path::new("../plugins/haiku")), "../plugins/haiku");
        assert_eq!(quoted(Path::new("my plugins/haiku")), "'my plugins/haiku'");
        assert_eq!(quoted(Path::new("it's/haiku")), r"'it'\''s/haiku'");
    }
}
