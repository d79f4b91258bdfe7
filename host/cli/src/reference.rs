//! `docs/cli.md`, generated from the definition of the command line, and the test that it is up to date.
//!
//! `AGENTHOST_BLESS=1 cargo test -p agenthost-cli --lib reference` regenerates it.

use std::fmt::Write as _;

use clap::{Arg, Command};

const BEGIN: &str = "\
# The command line

Every command and flag, as `--help` shows them. This file is generated from the definitions in the program. After a change
to them, run `AGENTHOST_BLESS=1 cargo test -p agenthost-cli --lib reference`.

## Untrusted text

Plugins, models, registries, files and file names contain text that agenthost did not write. Hidden characters in it are
shown as escapes such as `\\u{1b}`. Hidden characters are control characters other than line breaks and tabs, characters that
change the direction of text, and invisible characters: zero-width characters, soft hyphens, fillers, tags, and variation
selectors and joiners outside of emoji.

| where | what is escaped |
|---|---|
| stderr, including logs, and pages on stdout such as those of `show` and `inspect` | hidden characters, also in a pipe |
| JSON on stdout, and the results of `batch` in a file | hidden characters, as `\\u009b`: the value stays the same |
| other data on stdout, such as paths, WIT, completions and suggested limits | hidden characters on a terminal, nothing elsewhere |
| the journal, cassettes, `agenthost.lock` and other files | what their format requires |

The lines of a message after the first are indented, so a line on stderr that begins at the left margin is agenthost's own.
A terminal that wraps a long line begins the rest at the margin, too. Characters that only look like others are not marked.
";

fn reference(mut root: Command) -> String {
    root.build();
    let mut text = BEGIN.to_owned();
    text.push_str("\n## agenthost\n\n");
    about(&root, &mut text);
    let commands: Vec<_> = root
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .collect();
    text.push_str("\n| command | |\n|---|---|\n");
    for command in &commands {
        let (name, about) = (command.get_name(), command.get_about().map(ToString::to_string));
        let _ = writeln!(
            text,
            "| [`{name}`](#agenthost-{name}) | {} |",
            cell(&about.unwrap_or_default())
        );
    }
    let (global, _): (Vec<&Arg>, Vec<_>) = root.get_arguments().partition(|arg| arg.is_global_set());
    text.push_str("\nOptions of every command:\n\n");
    table(&global, &mut text);
    for command in commands {
        section(command, "agenthost", &mut text);
    }
    text
}

fn section(command: &Command, above: &str, text: &mut String) {
    let name = format!("{above} {}", command.get_name());
    let _ = write!(text, "\n## {name}\n\n");
    about(command, text);
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let _ = write!(text, "\n```text\n{usage}\n```\n");
    let own = |arg: &&Arg| {
        !arg.is_global_set() && !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str())
    };
    let arguments: Vec<_> = command.get_arguments().filter(own).collect();
    if !arguments.is_empty() {
        text.push('\n');
        table(&arguments, text);
    }
    let below = command.get_subcommands();
    for command in below.filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        section(command, &name, text);
    }
}

fn about(command: &Command, text: &mut String) {
    let about = command
        .get_long_about()
        .or(command.get_about())
        .map(ToString::to_string);
    let _ = writeln!(text, "{}.", about.unwrap_or_default().trim_end_matches('.'));
}

fn table(arguments: &[&Arg], text: &mut String) {
    text.push_str("| argument | |\n|---|---|\n");
    for arg in arguments {
        let _ = writeln!(text, "| `{}` | {} |", signature(arg).replace('|', "\\|"), meaning(arg));
    }
}

/// Returns `-i, --input <JSON>`, or `<PLUGIN>`.
fn signature(arg: &Arg) -> String {
    // clap's own form includes the value's name, but only the long flag.
    let long = arg.to_string();
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(_)) => format!("-{short}, {long}"),
        _ => long,
    }
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let mut meaning = cell(&help.unwrap_or_default());
    let values: Vec<_> = arg.get_possible_values();
    let named = values.iter().filter(|value| !value.is_hide_set());
    let named: Vec<_> = named.map(|value| format!("`{}`", value.get_name())).collect();
    if arg.get_action().takes_values() && !named.is_empty() {
        let _ = write!(meaning, " [possible values: {}]", named.join(", "));
    }
    let defaults = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()));
    let defaults: Vec<_> = defaults.collect();
    if arg.get_action().takes_values() && !arg.is_hide_default_value_set() && !defaults.is_empty() {
        let _ = write!(meaning, " [default: {}]", defaults.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(meaning, " [env: `{}`]", variable.to_string_lossy());
    }
    meaning
}

/// Returns the text on one line, without characters that end a table cell.
fn cell(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|").replace('<', "&lt;")
}

#[test]
fn the_reference_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let fresh = reference(super::definition());
    if std::env::var_os("AGENTHOST_BLESS").is_some() {
        std::fs::write(path, &fresh).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap_or_default(),
        fresh,
        "docs/cli.md is stale: run `AGENTHOST_BLESS=1 cargo test -p agenthost-cli --lib reference`"
    );
}
