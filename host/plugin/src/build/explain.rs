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
use super::sections::SDK;
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
    let advice = advice(dir, first, of_the_macro, &errors);
    let rendered: Vec<_> = errors.iter().map(|error| error.rendered).collect();
    BuildError::Compile {
        dir: dir.to_owned(),
        problems: problems(&errors),
        output: rendered.join("\n\n"),
        advice,
    }
}

/// Returns the advice for the author.
fn advice(dir: &Path, first: &Diagnostic<'_>, of_the_macro: bool, errors: &[Diagnostic<'_>]) -> String {
    let texts = || errors.iter().map(|error| (error.code.unwrap_or_default(), error.text));
    // Without the edition or the SDK, all other errors follow from that.
    if texts().any(|(code, _)| code == "E0670") {
        return "Write `edition = \"2024\"` under [package] in Cargo.toml.".into();
    }
    if texts().any(|(code, text)| ["E0432", "E0433"].contains(&code) && text.contains("`agenthost_sdk`")) {
        return dependency(dir);
    }
    let known = texts().find_map(|(code, text)| {
        shadowed(code, text)
            .or_else(|| underived(code, text))
            .or_else(|| keyword(text))
    });
    if let Some(advice) = known {
        return advice;
    }
    // The code that the macro generates calls `run`, so a missing `run` is first reported there.
    let advice = match (of_the_macro, first.code) {
        (true, Some("E0425")) if first.text.contains("`run`") => {
            "Write the function `run` beside `plugin!()`, with the parameter and the result of `run` in wit/."
        }
        (true, Some(_)) => "The function `run` must have the parameter and the result of `run` in wit/.",
        _ => FIX,
    };
    advice.into()
}

/// Returns the advice for a crate that does not depend on the SDK: the line that `agenthost new` writes.
fn dependency(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mut up = String::new();
    for above in dir.ancestors() {
        if above.join(VENDORED).join("Cargo.toml").is_file() {
            return format!("Write `{SDK} = {{ path = \"{up}{VENDORED}\" }}` under [dependencies] in Cargo.toml.");
        }
        up += "../";
    }
    format!(
        "Write `{SDK} = {{ path = \"{VENDORED}\" }}` under [dependencies] in Cargo.toml, with the directory {VENDORED} of a \
         project that `agenthost new` makes."
    )
}

/// The copy of the SDK in a project that `agenthost new` makes.
const VENDORED: &str = "vendor/agenthost-sdk";

/// The types of the SDK's prelude, which a type of the WIT can hide.
const PRELUDE: &[&str] = &["Cache", "Effort", "Limit", "Prompt"];

/// Returns the advice if the code means a type of the SDK and gets one of the WIT.
fn shadowed(code: &str, text: &str) -> Option<String> {
    let mut quoted = text.split('`').skip(1).step_by(2);
    let name = quoted.find_map(|path| path.split_once("::task::").map(|(_, name)| name))?;
    (code == "E0599" && PRELUDE.contains(&name)).then(|| {
        format!(
            "The type `{}` in wit/ hides `{name}` of the SDK: give it another name, or write `agenthost_sdk::{name}` in the code.",
            name.to_ascii_lowercase()
        )
    })
}

/// Returns the advice for a type without the traits that a model's reply needs.
fn underived(code: &str, text: &str) -> Option<String> {
    let bound = text
        .strip_prefix("the trait bound `")?
        .strip_suffix("` is not satisfied")?;
    let (name, wanted) = bound.split_once(": ")?;
    let wanted = wanted.split(['<', ' ']).next()?.rsplit("::").next()?;
    let derived = ["JsonSchema", "Deserialize", "DeserializeOwned"].contains(&wanted);
    (code == "E0277" && derived).then(|| {
        format!("Write `#[derive(Deserialize, JsonSchema)]` above `{name}`; both are in `agenthost_sdk::prelude`.")
    })
}

/// Returns the advice for a name of WIT that is a keyword of Rust.
fn keyword(text: &str) -> Option<String> {
    let words = text.split('`').skip(1).step_by(2);
    let word = match text {
        "postfix match is experimental" => "match",
        _ if text.starts_with("expected identifier, found ") && text.contains("keyword") => words.last()?,
        _ if text.contains("no field ") || text.contains("no variant ") => {
            words.into_iter().find_map(|word| word.strip_prefix("r#"))?
        }
        _ => return None,
    };
    Some(format!(
        "A name of WIT that is a keyword of Rust ends in an underscore there: `{word}_`."
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_hides_one_of_the_sdk_is_named() {
        let text =
            "no function or associated item named `new` found for struct `haiku::task::Prompt` in the current scope";
        let advice = shadowed("E0599", text).unwrap();
        assert!(
            advice.starts_with("The type `prompt` in wit/ hides `Prompt` of the SDK: "),
            "{advice}"
        );
        assert_eq!(shadowed("E0599", &text.replace("Prompt", "Poem")), None);
        assert_eq!(shadowed("E0599", &text.replace("::task", "")), None);
        assert_eq!(shadowed("E0308", text), None);
    }

    #[test]
    fn a_reply_of_a_type_without_derives_is_explained() {
        for bound in [
            "Bare: JsonSchema",
            "Bare: serde::de::DeserializeOwned",
            "Bare: agenthost_sdk::prelude::Deserialize<'de>",
        ] {
            let advice = underived("E0277", &format!("the trait bound `{bound}` is not satisfied")).unwrap();
            assert!(
                advice.starts_with("Write `#[derive(Deserialize, JsonSchema)]` above `Bare`"),
                "{advice}"
            );
        }
        assert_eq!(
            underived("E0277", "the trait bound `Bare: Clone` is not satisfied"),
            None
        );
        assert_eq!(underived("E0277", "`?` couldn't convert the error"), None);
    }

    #[test]
    fn a_keyword_of_rust_is_explained() {
        for text in [
            "postfix match is experimental",
            "no field `r#match` on type `Matter`",
            "struct `Opinion` has no field named `r#match`",
            "expected identifier, found keyword `match`",
        ] {
            assert!(
                keyword(text).is_some_and(|advice| advice.ends_with("`match_`.")),
                "{text}"
            );
        }
        assert_eq!(keyword("no field `mach` on type `Matter`"), None);
        assert_eq!(keyword("mismatched types"), None);
    }

    #[test]
    fn the_dependency_on_the_sdk_is_given_as_the_nearest_copy() {
        let dir = tempfile::tempdir().unwrap();
        let expert = dir.path().join("team/expert");
        std::fs::create_dir_all(&expert).unwrap();
        assert!(dependency(&expert).contains("`agenthost new`"));
        let copy = dir.path().join("team").join(VENDORED);
        std::fs::create_dir_all(&copy).unwrap();
        std::fs::write(copy.join("Cargo.toml"), "").unwrap();
        for (dir, up) in [(expert, "../"), (dir.path().join("team"), "")] {
            assert_eq!(
                dependency(&dir),
                format!(
                    "Write `agenthost-sdk = {{ path = \"{up}vendor/agenthost-sdk\" }}` under [dependencies] in Cargo.toml."
                )
            );
        }
    }
}
