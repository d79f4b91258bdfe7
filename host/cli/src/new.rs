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
use agenthost::config::trust;
use agenthost::config::trust::crates::CrateBuild;
use agenthost::config::{Config, Env, PROJECT_FILE};
use agenthost::error::{Error, Result, with_causes};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugin's name, such as `haiku`, or with its namespace, such as `acme:haiku`; with --workspace, the name of the
    /// folder and the namespace of its plugins
    name: String,
    /// Create an orchestrator with one sub-agent
    #[arg(long, conflicts_with = "batch")]
    orchestrator: bool,
    /// Create a plugin that takes a list and returns a result for each item
    #[arg(long)]
    batch: bool,
    /// Create a workspace for a team: a plugin for each pattern, with tests, inputs, limits and a schedule
    #[arg(long, conflicts_with_all = ["orchestrator", "batch"])]
    workspace: bool,
    /// Create the project in this directory
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
    let kind = match (args.orchestrator, args.batch, args.workspace) {
        (true, ..) => Kind::Orchestrator,
        (_, true, _) => Kind::Batch,
        (.., true) => Kind::Workspace,
        _ => Kind::Leaf,
    };
    let namespace = args.namespace.as_deref();
    let name = match kind {
        Kind::Workspace => Name::parse_workspace(&args.name, namespace)?,
        _ => Name::parse(&args.name, namespace, kind == Kind::Orchestrator)?,
    };
    let parent = env.cwd().join(&args.path);
    // Links are resolved, since the directories above the project are searched.
    let parent = parent.canonicalize().map_err(|error| {
        Error::usage(format!("{}: {error}", parent.display()))
            .with_hint("Make the directory first, or give another one with --path.")
    })?;
    let dir = parent.join(&name.name);
    let files = project::write(kind, &name, &dir)?;
    let config = dir.join(PROJECT_FILE);
    // The new files are the operator's own; files above them that a build would read are not.
    let accepted = match kind {
        Kind::Workspace => trust::accept_created(env, &config).map(drop).map_err(Error::from),
        _ => CrateBuild::of(env, &dir)
            .and_then(|build| build.accept_alone(env))
            .map_err(Error::from),
    };
    if let Err(error) = accepted {
        let unrecorded = match kind {
            Kind::Workspace => "that its crates may be built and its configuration applies",
            _ => "that its crate may be built",
        };
        printer.note(&format!("{unrecorded} is not recorded: {}", with_causes(&error)));
    }

    let id = match kind {
        Kind::Workspace => format!("{}:*", name.namespace),
        _ => format!("{}:{}", name.namespace, name.name),
    };
    let mut next = vec![format!("cd {}", quoted(&args.path.join(&name.name)))];
    next.extend(
        match kind {
            Kind::Workspace => [
                "agenthost run plugins/research --input @inputs/research.json",
                "agenthost test plugins/research",
            ],
            _ => ["agenthost test", "agenthost run . --input @input.json"],
        }
        .map(str::to_owned),
    );
    let most = match kind {
        // Every model call in the project counts against its allowance, those of a schedule too.
        Kind::Workspace => Config::load_from(env, &config)
            .ok()
            .and_then(|config| config.project_allowance().cost_per_day),
        _ => None,
    };
    if args.json {
        let mut document = json!({"format": 1, "path": dir, "id": id, "files": files, "next": next});
        if let (Some(most), Some(fields)) = (most, document.as_object_mut()) {
            fields.insert("cost_per_day_usd".to_owned(), json!(most));
        }
        printer.data(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    printer.say(&match kind {
        Kind::Workspace => format!("made the workspace {}:", name.name),
        _ => format!("made {id}:"),
    });
    for file in shown(kind, &files) {
        printer.say(&format!("  {file}"));
    }
    if dir.join(sdk::DIR).is_dir() {
        printer.say(&format!("  {}/: the SDK, version {}", sdk::DIR, sdk::VERSION));
    }
    printer.say("next:");
    for command in next {
        printer.say(&format!("  {command}"));
    }
    printer.path(&dir)?;
    if let Some(most) = most {
        printer.say(&format!("this workspace can spend at most {most} a day"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the lines that list the files: of a workspace, one for each folder at its top.
fn shown(kind: Kind, files: &[PathBuf]) -> Vec<String> {
    let mut lines: Vec<String> = files
        .iter()
        .map(|file| match (kind, file.iter().next()) {
            (Kind::Workspace, Some(top)) if top != file.as_os_str() => format!("{}/", top.display()),
            _ => file.display().to_string(),
        })
        .collect();
    lines.dedup(); // the files are sorted
    lines
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
