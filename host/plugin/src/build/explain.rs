//! Explains why cargo could not build a plugin, and what to do.
//!
//! The text of an error has the problem in a line or a few; the report of the compiler or of cargo, without the progress
//! output, is kept for a reader who asks for it. The explanation adds facts that the reader would otherwise have to find
//! out: which crate does not build for plugins and why it is a dependency, what the macro of the SDK expects, that the
//! target is missing.

use std::path::Path;

use super::cargo::{Diagnostic, Said};
use super::crates::Graph;
use super::package::Package;
use super::tools::Tools;
use super::{BuildError, CargoFailure};

const FIX: &str = "Fix the code at the places that are shown and run the command again.";

/// The maximum number of compiler errors in the text of an error.
const SHOWN: usize = 5;

/// Creates the error of a build that failed.
pub(super) fn failed(tools: &Tools, dir: &Path, package: &Package, said: &Said) -> BuildError {
    let errors = said.errors();
    let Some(first) = errors.first() else {
        return without_diagnostics(tools, dir, package, said);
    };
    if errors
        .iter()
        .any(|error| error.text.starts_with("can't find crate for `std`"))
    {
        return BuildError::TargetMissing { rustup: None };
    }
    if first.package != package.id {
        return foreign(tools, dir, package, first);
    }
    let of_the_macro = first.expansion.is_some_and(|name| name.ends_with("plugin!"));
    if of_the_macro && first.code.is_none() {
        return about_the_wit(dir, first);
    }
    // The code that the macro generates calls `run`, so a missing `run` is first reported there.
    let advice = match (of_the_macro, first.code) {
        (true, Some("E0425")) if first.text.contains("`run`") => {
            "Write the function `run` beside `plugin!()`, with the parameter and the result of `run` in wit/."
        }
        (true, Some(_)) => "The function `run` must have the parameter and the result of `run` in wit/.",
        _ => FIX,
    };
    let rendered: Vec<_> = errors.iter().map(|error| error.rendered).collect();
    BuildError::Compile {
        dir: dir.to_owned(),
        problems: problems(&errors),
        output: rendered.join("\n\n"),
        advice,
    }
}

/// The first errors, one a line, in the compiler's short form: `src/lib.rs:1:21: error[E0308]: mismatched types`.
fn problems(errors: &[Diagnostic<'_>]) -> String {
    let mut lines: Vec<String> = errors.iter().take(SHOWN).map(Diagnostic::short).collect();
    let others = errors.len().saturating_sub(SHOWN);
    if others > 0 {
        lines.push(format!("and {others} more"));
    }
    lines.join("\n")
}

/// Creates the error for an error of the macro. It is about the WIT and has its own hint; the location of the macro
/// does not matter.
fn about_the_wit(dir: &Path, error: &Diagnostic<'_>) -> BuildError {
    let (text, advice) = match error.text.split_once("\nhint: ") {
        Some((text, hint)) => (text, Some(sentence(hint))),
        None => (error.text, None),
    };
    BuildError::Macro {
        dir: dir.to_owned(),
        problem: text.to_owned(),
        advice,
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

/// Creates the error for a dependency that does not compile.
fn foreign(tools: &Tools, dir: &Path, package: &Package, error: &Diagnostic<'_>) -> BuildError {
    let graph = Graph::read(tools, dir, &package.id);
    let way = graph.and_then(|graph| graph.way_to(error.package));
    let name = way.unwrap_or_else(|| plain(error.package).to_owned());
    BuildError::Dependency {
        dir: dir.to_owned(),
        package: name,
        build_script: false,
        output: error.rendered.to_owned(),
    }
}

/// Returns `mio@1.0.2` for `registry+…#mio@1.0.2`.
fn plain(id: &str) -> &str {
    id.rsplit(['#', '/']).next().unwrap_or(id)
}

/// Creates the error for a failure of cargo itself: nothing was compiled, or a build script failed.
fn without_diagnostics(tools: &Tools, dir: &Path, package: &Package, said: &Said) -> BuildError {
    let words = said.own_words();
    if let Some(failed) = said.between("failed to run custom build command for `", "`") {
        let name = failed.split(' ').next().unwrap_or(failed);
        let way = Graph::read(tools, dir, &package.id).and_then(|graph| graph.way_to_name(name));
        let name = way.unwrap_or_else(|| failed.to_owned());
        return BuildError::Dependency {
            dir: dir.to_owned(),
            package: name,
            build_script: true,
            output: words,
        };
    }
    if said.mentions("no library targets found") {
        return BuildError::NoLibrary {
            dir: dir.to_owned(),
            package: package.name.clone(),
        };
    }
    let cause = if said.mentions("may not be installed") {
        CargoFailure::TargetMissing
    } else if [
        "failed to select a version",
        "failed to get",
        "offline",
        "no matching package",
    ]
    .iter()
    .any(|words| said.mentions(words))
    {
        CargoFailure::Dependency
    } else {
        CargoFailure::Other
    };
    BuildError::Cargo {
        dir: dir.to_owned(),
        output: words,
        cause,
    }
}
