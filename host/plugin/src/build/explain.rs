//! Explains why cargo could not build a plugin, and what to do.
//!
//! An error in the plugin's own code is shown once, as the compiler prints it, without cargo's progress output. The
//! explanation adds facts that the reader would otherwise have to find out: which crate does not build for plugins and
//! why it is a dependency, what the macro of the SDK expects, that the target is missing.

use std::path::Path;

use serde_json::Value;

use super::cargo::{Diagnostic, Said};
use super::crates::Graph;
use super::tools::Tools;
use super::{Package, TARGET};
use agenthost_core::error::Error;

const MEND: &str = "Mend what the compiler says above and run the command again.";

/// Creates the error of a build that failed.
pub(super) fn failed(tools: &Tools, dir: &Path, package: &Package, said: &Said) -> Error {
    let errors = said.errors();
    let Some(first) = errors.first() else {
        return without_diagnostics(tools, dir, package, said);
    };
    if errors
        .iter()
        .any(|error| error.text.starts_with("can't find crate for `std`"))
    {
        return Error::plugin(format!("the compile target {TARGET} is missing")).with_hint(by_hand());
    }
    if first.package != package.id {
        return foreign(tools, dir, package, first);
    }
    let of_the_macro = first.expansion.is_some_and(|name| name.ends_with("plugin!"));
    if of_the_macro && first.code.is_none() {
        return about_the_wit(dir, first);
    }
    // The code that the macro generates calls `run`, so a missing `run` is first reported there.
    let hint = match (of_the_macro, first.code) {
        (true, Some("E0425")) if first.text.contains("`run`") => {
            "Write the function `run` beside `plugin!()`, with the parameter and the result of `run` in wit/."
        }
        (true, Some(_)) => "The function `run` must have the parameter and the result of `run` in wit/.",
        _ => MEND,
    };
    let rendered: Vec<_> = errors.iter().map(|error| error.rendered).collect();
    Error::plugin(format!(
        "{}: the plugin does not compile\n{}",
        dir.display(),
        rendered.join("\n\n")
    ))
    .with_hint(hint)
}

/// Creates the error for a component that is not a plugin.
pub(super) fn no_plugin(dir: &Path, error: Error) -> Error {
    let nothing = error.message().ends_with("it exports nothing");
    let error = error.at(dir);
    match nothing {
        true => error.with_hint(
            "Write the types of the task to wit/world.wit, and `agenthost_sdk::plugin!();` with a function `run` to src/lib.rs.",
        ),
        false => error,
    }
}

/// Creates the error for the directory of a workspace, whose plugins are in subdirectories.
pub(super) fn workspace(dir: &Path, metadata: &Value) -> Error {
    let root = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let packages = metadata.get("packages").and_then(Value::as_array);
    let members = packages.into_iter().flatten().filter_map(|package| {
        let path = Path::new(package.get("manifest_path")?.as_str()?).parent()?;
        Some(path.strip_prefix(&root).unwrap_or(path).display().to_string())
    });
    let members: Vec<_> = members.take(MEMBERS).collect();
    let such = match members.as_slice() {
        [] => String::new(),
        members => format!(", such as {}", members.join(", ")),
    };
    Error::plugin(format!("{}: a workspace without a package of its own", dir.display()))
        .with_hint(format!("Give the directory of the plugin's own package{such}."))
}

/// The maximum number of workspace members in the hint.
const MEMBERS: usize = 5;

/// Returns a hint for installing the target.
pub(super) fn by_hand() -> String {
    format!("Run `rustup target add {TARGET}`, or install the {TARGET} standard library of your Rust.")
}

/// Creates the error for an error of the macro. It is about the WIT and has its own hint; the location of the macro
/// does not matter.
fn about_the_wit(dir: &Path, error: &Diagnostic<'_>) -> Error {
    let (text, hint) = error.text.split_once("\nhint: ").unwrap_or((error.text, ""));
    let hint = match hint {
        "" => "The types of a plugin come from its WIT: mend what is said of it above.".to_owned(),
        hint => sentence(hint),
    };
    Error::plugin(format!("{}: {text}", dir.display())).with_hint(hint)
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

/// Creates the error for a dependency that does not compile.
fn foreign(tools: &Tools, dir: &Path, package: &Package, error: &Diagnostic<'_>) -> Error {
    let graph = Graph::read(tools, dir, &package.id);
    let way = graph.and_then(|graph| graph.way_to(error.package));
    let name = way.unwrap_or_else(|| plain(error.package).to_owned());
    Error::plugin(format!(
        "{}: the crate {name} cannot be built for {TARGET}\n{}",
        dir.display(),
        error.rendered
    ))
    .with_hint(LEAVE_OUT)
}

const LEAVE_OUT: &str = "A plugin has no sockets, no threads and no C library: leave the crate out, or turn off the feature that \
                         brings it, often with `default-features = false`.";

/// Returns `mio@1.0.2` for `registry+…#mio@1.0.2`.
fn plain(id: &str) -> &str {
    id.rsplit(['#', '/']).next().unwrap_or(id)
}

/// Creates the error for a failure of cargo itself: nothing was compiled, or a build script failed.
fn without_diagnostics(tools: &Tools, dir: &Path, package: &Package, said: &Said) -> Error {
    let words = said.own_words();
    if let Some(failed) = said.between("failed to run custom build command for `", "`") {
        let name = failed.split(' ').next().unwrap_or(failed);
        let way = Graph::read(tools, dir, &package.id).and_then(|graph| graph.way_to_name(name));
        let name = way.unwrap_or_else(|| failed.to_owned());
        return Error::plugin(format!(
            "{}: the crate {name} cannot be built for {TARGET}: its build script failed\n{words}",
            dir.display()
        ))
        .with_hint(LEAVE_OUT);
    }
    if said.mentions("no library targets found") {
        return Error::plugin(format!("{}: the crate {} has no library", dir.display(), package.name))
            .with_hint(super::CDYLIB);
    }
    let hint = if said.mentions("may not be installed") {
        by_hand()
    } else if [
        "failed to select a version",
        "failed to get",
        "offline",
        "no matching package",
    ]
    .iter()
    .any(|words| said.mentions(words))
    {
        "A dependency cannot be fetched or resolved; cargo says which one above.".into()
    } else {
        "Mend what cargo says above and run the command again.".into()
    };
    Error::plugin(format!("{}: cargo could not build the plugin\n{words}", dir.display())).with_hint(hint)
}
