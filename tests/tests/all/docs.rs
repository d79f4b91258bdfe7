//! The documents are correct: configurations load, links have a target, flags exist.

use std::path::{Path, PathBuf};

use agenthost::config::Config;
use agenthost_tests::guests::workspace;

use crate::machine;

/// Every Markdown file of the project, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    fn below(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && !name.to_string_lossy().starts_with('.') {
                    below(&path, found);
                }
            } else if path.extension().is_some_and(|end| end == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    below(workspace(), &mut found);
    assert!(found.len() > 10, "where are the documents?");
    found
}

/// The code blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    text.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

#[test]
fn configurations_in_the_documents_load() {
    let mut count = 0;
    for (path, text) in documents() {
        for block in blocks(&text, "toml")
            .into_iter()
            .filter(|block| block.contains("[models]"))
        {
            let machine = machine().config(block).trusting("agenthost.toml");
            let output = machine.run(["doctor", "--json"]);
            let report = output.stdout.clone();
            assert!(
                !report.contains("\"name\":\"configuration\",\"state\":\"fail\""),
                "{}: {report}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn each_recipe_for_a_provider_loads_and_maps_a_model_to_it() {
    let path = workspace().join("docs/providers.md");
    let text = std::fs::read_to_string(path).unwrap();
    let recipes = text.split("\n## ").skip(1);
    for recipe in recipes {
        let service = recipe.lines().next().unwrap();
        let blocks = blocks(recipe, "toml");
        assert!(!blocks.is_empty(), "{service} has no lines");
        for block in blocks {
            let machine = machine().config(block).trusting("agenthost.toml");
            let config = Config::load(&machine.surroundings()).unwrap_or_else(|error| panic!("{service}: {error}"));
            let model = &config.models()["fast"][0];
            let provider = config.provider(&model.provider).unwrap();
            assert!(provider.address.is_some(), "{service} is not a service");
            let named = block.contains(&format!("[providers.{}]", model.provider));
            assert!(named || service == "Anthropic", "{service} maps a model elsewhere");
        }
        let listed = format!("| [{service}](#");
        assert!(text.contains(&listed), "{service} is not in the table");
        for word in ["- Known: ", "- Tried"] {
            assert!(recipe.contains(word), "{service} lacks {word}");
        }
    }
    assert_eq!(text.matches("\n## ").count(), text.matches("\n| [").count());
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    for (path, text) in documents() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let full = path.parent().unwrap().join(target);
            assert!(full.exists(), "{} links to {target}", path.display());
        }
    }
}

#[test]
fn flags_in_the_readme_exist() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let help = machine().run(["run", "--help"]).stdout;
    for flag in [
        "tokens", "cost", "calls", "fuel", "memory", "timeout", "tasks", "depth", "with", "dir", "json", "input",
    ] {
        assert!(
            readme.contains(&format!("--{flag}")),
            "the README does not know --{flag}"
        );
        assert!(
            help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}\n")),
            "no --{flag} in {help}"
        );
    }
}
