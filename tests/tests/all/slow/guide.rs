//! The guide in `docs/guide`, followed from its first line to its last: files are written, commands are typed, and
//! their output is compared with the output shown. A block that cannot be checked fails the test.
//!
//! The language of a block and the comment before it define its kind:
//!
//! | | |
//! |---|---|
//! | `console` | commands after `$ `, each with its output. A command that fails is followed by `$ echo $?` |
//! | `<!-- file: PATH -->` | the file is written; what was there is replaced |
//! | `<!-- append: PATH -->` | the text is put at the end of the file |
//! | `<!-- change: PATH -->` and `diff` | the lines with `-` are removed, those with `+` are added; the others mark the place |
//! | `<!-- part: PATH -->` | the file has these lines, however far they are indented |
//! | `rust` without a comment | in the chapters of [`DOCTESTED`] alone |
//!
//! `…` in a line matches any text, and as a line any lines. JSON is shown as a terminal gets it, over several lines.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use agenthost::plugin::build;
use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::workspace;
use agenthost_tests::optional;
use serde_json::Value;

use super::new;

/// Chapters whose Rust is compiled and run as tests of the documentation; see `tests/src/lib.rs`.
const DOCTESTED: [&str; 1] = ["embedding.md"];

/// A block of code.
struct Block {
    /// The line of its fence, from 1.
    line: usize,
    language: String,
    /// The contents of the comment before it.
    comment: Option<(String, String)>,
    text: Vec<String>,
}

fn guide() -> PathBuf {
    workspace().join("docs/guide")
}

fn chapter(name: &str) -> String {
    std::fs::read_to_string(guide().join("src").join(name)).unwrap()
}

/// The chapters, in the order of the summary.
fn chapters() -> Vec<String> {
    let summary = chapter("SUMMARY.md");
    let links = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links: Vec<String> = links.map(str::to_owned).collect();
    assert!(links.len() > 5, "where are the chapters? {summary}");
    links
}

/// The blocks of a chapter, and complaints about what is none that this test can see.
fn blocks(text: &str) -> (Vec<Block>, Vec<String>) {
    let (mut blocks, mut complaints) = (Vec::<Block>::new(), Vec::new());
    let (mut within, mut comment) = (false, None);
    for (n, line) in text.lines().enumerate() {
        let fence = line.strip_prefix("```");
        match (within, fence) {
            (true, Some(_)) => within = false,
            (true, None) => blocks.last_mut().unwrap().text.push(line.to_owned()),
            (false, Some(language)) => {
                within = true;
                blocks.push(Block {
                    line: n + 1,
                    language: language.to_owned(),
                    comment: comment.take(),
                    text: Vec::new(),
                });
            }
            (false, None) => {
                let hidden = ["    ", "\t", "<pre", "<code", "~~~"];
                if hidden.iter().any(|start| line.starts_with(start)) || line.trim_start().starts_with("```") {
                    complaints.push(format!("line {}: a block that is not checked", n + 1));
                }
                let said = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->"));
                let said = said.and_then(|said| said.split_once(": "));
                if line.is_empty() && comment.is_some() {
                    continue;
                }
                if comment.is_some() {
                    complaints.push(format!("line {}: no block follows the comment", n + 1));
                }
                comment = said.map(|(what, path)| (what.to_owned(), path.to_owned()));
            }
        }
    }
    if within || comment.is_some() {
        complaints.push("the last block is not closed, or missing".to_owned());
    }
    (blocks, complaints)
}

/// Returns whether `line` is as `shown`; `…` matches any text.
fn fits_line(shown: &str, line: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else {
        return shown == line;
    };
    let Some(line) = line.strip_prefix(start) else {
        return false;
    };
    let mut ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
    ends.any(|at| fits_line(rest, &line[at..]))
}

/// The same of lines; a line `…` matches any number of them.
fn fits(shown: &[String], lines: &[String]) -> bool {
    match (shown.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "…" => (0..=lines.len()).any(|n| fits(rest, &lines[n..])),
        (Some((first, shown)), Some((line, lines))) => fits_line(first, line) && fits(shown, lines),
        _ => false,
    }
}

/// The text as a terminal shows it: JSON over several lines.
fn terminal(text: &str) -> Vec<String> {
    let mut shown = Vec::new();
    for line in text.lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(value) if value.is_object() || value.is_array() => {
                let pretty = serde_json::to_string_pretty(&value).unwrap();
                shown.extend(pretty.lines().map(str::to_owned));
            }
            _ => shown.push(line.trim_end().to_owned()),
        }
    }
    shown
}

/// Where `part` begins in `lines`; it must be there once.
fn place(part: &[String], lines: &[String]) -> Result<usize, String> {
    let windows = lines.windows(part.len().max(1)).enumerate();
    let mut places = windows.filter(|(_, window)| *window == part).map(|(at, _)| at);
    match (places.next(), places.next()) {
        (Some(at), None) => Ok(at),
        (None, _) => Err(format!("the file has no such lines:\n{}", part.join("\n"))),
        (Some(_), Some(_)) => Err("the file has these lines more than once".to_owned()),
    }
}

/// A reader, with a machine and what was typed last.
struct Reader<'m> {
    machine: &'m TestEnv,
    dir: PathBuf,
    code: i32,
    commands: usize,
}

impl Reader<'_> {
    fn follow(&mut self, chapter: &str, block: &Block) -> Result<(), String> {
        match (&block.comment, block.language.as_str()) {
            (None, "console") => self.console(&block.text),
            (None, "rust") if DOCTESTED.contains(&chapter) => Ok(()),
            (Some((what, path)), _) => self.file(what, path, block),
            (None, language) => Err(format!("nothing checks a block of the language `{language}`")),
        }
    }

    /// Types the commands of a block. All errors are reported together.
    fn console(&mut self, lines: &[String]) -> Result<(), String> {
        let (mut wrong, mut lines) = (Vec::new(), lines.iter().peekable());
        while let Some(line) = lines.next() {
            let Some(command) = line.strip_prefix("$ ") else {
                return Err(format!("the block begins with no command: {line}"));
            };
            let mut command = command.to_owned();
            while command.ends_with('\\') {
                command = format!(
                    "{command}\n{}",
                    lines.next().ok_or("the command goes on, and the block ends")?
                );
            }
            let mut shown = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                shown.push(line.clone());
            }
            if self.code != 0 && command != "echo $?" {
                wrong.push(format!(
                    "{command}: what was typed before failed with {}, and no `echo $?` says so",
                    self.code
                ));
            }
            let (output, dir) = self.machine.shell(&self.dir, &command, self.code);
            (self.code, self.dir) = (output.code, dir);
            self.commands += 1;
            let said = terminal(&output.stdout);
            if !fits(&shown, &said) {
                wrong.push(format!("{command}: (exit code {})\n{}", output.code, said.join("\n")));
            }
        }
        if self.code != 0 {
            wrong.push(format!(
                "the last command failed with {}, and no `echo $?` says so",
                self.code
            ));
            self.code = 0;
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n\n"))
        }
    }

    fn file(&self, what: &str, path: &str, block: &Block) -> Result<(), String> {
        let file = self.dir.join(path);
        let language = match file.extension().and_then(|end| end.to_str()) {
            Some("rs") => "rust",
            Some("md") => "markdown",
            Some(end) => end,
            None => "text",
        };
        let expected = if what == "change" { "diff" } else { language };
        if block.language != expected {
            return Err(format!(
                "{path}: the language is `{}`, not `{expected}`",
                block.language
            ));
        }
        let before = || {
            let text = std::fs::read_to_string(&file).map_err(|error| format!("{path}: {error}"))?;
            Ok::<_, String>(text.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        let write = |lines: &[String]| {
            std::fs::create_dir_all(file.parent().unwrap()).map_err(|error| error.to_string())?;
            std::fs::write(&file, lines.join("\n") + "\n").map_err(|error| format!("{path}: {error}"))
        };
        match what {
            "file" => write(&block.text),
            "append" => write(&[before()?, block.text.clone()].concat()),
            "part" => {
                let trimmed = |lines: &[String]| lines.iter().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
                let any = ["…".to_owned()];
                let part = [&any[..], &trimmed(&block.text), &any[..]].concat();
                match fits(&part, &trimmed(&before()?)) {
                    true => Ok(()),
                    false => Err(format!("{path}: the file has no such lines")),
                }
            }
            "change" => {
                let side = |without: char| -> Vec<String> {
                    let lines = block.text.iter().filter(|line| !line.starts_with(without));
                    lines.map(|line| line.get(1..).unwrap_or_default().to_owned()).collect()
                };
                let (old, new, mut lines) = (side('+'), side('-'), before()?);
                let at = place(&old, &lines).map_err(|why| format!("{path}: {why}"))?;
                lines.splice(at..at + old.len(), new);
                write(&lines)
            }
            _ => Err(format!("nothing is known of a comment `{what}`")),
        }
    }
}

#[test]
fn whoever_follows_the_guide_sees_what_it_shows() {
    let machine = new::projects();
    build::install_target(&machine.cwd()).unwrap();
    let (mut complaints, mut commands) = (Vec::new(), 0);
    for name in chapters() {
        let text = chapter(&name);
        let (blocks, unseen) = blocks(&text);
        complaints.extend(unseen.into_iter().map(|why| format!("{name}: {why}")));
        let mut reader = Reader {
            machine: &machine,
            dir: machine.cwd(),
            code: 0,
            commands: 0,
        };
        for block in &blocks {
            let checked = reader.follow(&name, block);
            complaints.extend(checked.err().map(|why| format!("{name}, line {}: {why}", block.line)));
        }
        commands += reader.commands;
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n\n"));
    assert!(commands > 40, "{commands} commands: what became of the sessions?");
}

#[test]
fn every_chapter_is_in_the_summary_and_every_link_leads_somewhere() {
    let src = guide().join("src");
    let files = std::fs::read_dir(&src).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(chapters().into_iter().collect::<BTreeSet<_>>(), files);

    for name in &files {
        let text = chapter(name);
        assert!(text.starts_with("# "), "{name} has no title");
        let lines = text.lines().count();
        assert!(
            (40..=250).contains(&lines),
            "{name} has {lines} lines: another chapter?"
        );
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                src.join(name)
            } else {
                src.join(path)
            };
            let there = std::fs::read_to_string(&target);
            assert!(there.is_ok() || target.is_dir(), "{name} links to {link}");
            let has_anchor = |text: &str| text.lines().any(|line| is_heading(line, anchor));
            assert!(
                anchor.is_empty() || there.is_ok_and(|text| has_anchor(&text)),
                "{name} links to {link}, and there is no such heading"
            );
        }
    }
}

/// Returns whether a line is the heading with this anchor.
fn is_heading(line: &str, anchor: &str) -> bool {
    let Some(title) = line.strip_prefix('#') else {
        return false;
    };
    let title = title.trim_start_matches('#').trim().to_lowercase();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    let made: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
    made == anchor
}

#[test]
fn rust_without_a_file_is_tested_with_the_documentation() {
    let lib = std::fs::read_to_string(workspace().join("tests/src/lib.rs")).unwrap();
    let included: BTreeSet<&str> = lib
        .split("include_str!(\"../../docs/guide/src/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(included, BTreeSet::from(DOCTESTED));
    for name in DOCTESTED {
        let (blocks, _) = blocks(&chapter(name));
        assert!(
            blocks.iter().any(|block| block.language == "rust"),
            "{name} has no Rust"
        );
    }
}

#[test]
fn a_block_that_nothing_checks_is_found() {
    let machine = crate::machine();
    let complain = |text: &str| {
        let (blocks, mut complaints) = blocks(text);
        let mut reader = Reader {
            machine: &machine,
            dir: machine.cwd(),
            code: 0,
            commands: 0,
        };
        complaints.extend(blocks.iter().filter_map(|block| reader.follow("x.md", block).err()));
        complaints.join("\n")
    };
    for (text, complaint) in [
        ("```sh\nls\n```\n", "nothing checks a block of the language `sh`"),
        ("```\nls\n```\n", "nothing checks a block of the language ``"),
        (
            "```rust\nfn main() {}\n```\n",
            "nothing checks a block of the language `rust`",
        ),
        ("    indented\n", "a block that is not checked"),
        ("- list\n  ```sh\n  ls\n", "a block that is not checked"),
        ("<!-- file: x.rs -->\n\nText.\n", "no block follows"),
        (
            "<!-- fiel: x.rs -->\n```rust\n```\n",
            "nothing is known of a comment `fiel`",
        ),
        (
            "<!-- file: x.rs -->\n```toml\n```\n",
            "the language is `toml`, not `rust`",
        ),
        ("<!-- part: x.rs -->\n```rust\nfn\n```\n", "x.rs: No such file"),
        ("```console\n$ echo one\ntwo\n```\n", "echo one: (exit code 0)\none"),
        ("```console\n$ echo one\n```\n", "echo one: (exit code 0)\none"),
        ("```console\n$ false\n```\n", "the last command failed with 1"),
        (
            "```console\n$ false\n$ true\n```\n",
            "what was typed before failed with 1",
        ),
        ("```console\n$ agenthost --version\nagenthost 9…\n```\n", "agenthost 0"),
        ("```console\noutput\n```\n", "the block begins with no command"),
        ("```console\n$ true\n", "the last block is not closed"),
    ] {
        let said = complain(text);
        assert!(said.contains(complaint), "{text}: {said}");
    }
    let good = "<!-- file: x.toml -->\n```toml\na = 1\nb = 2\nc = 3\n```\n\n\
                <!-- change: x.toml -->\n```diff\n a = 1\n-b = 2\n+b = 3\n```\n\
                <!-- append: x.toml -->\n```toml\nd = 4\n```\n\
                <!-- part: x.toml -->\n\n```toml\nb = 3\nc = 3\n```\n\
                ```console\n$ mkdir d && cd d\n$ cat ../x.toml | \\\n  head -1\na = …\n$ false\n$ echo $?\n1\n\
                $ echo '{\"a\":[1]}'\n{\n…\n}\n```\n";
    assert_eq!(complain(good), "");
    assert_eq!(
        std::fs::read_to_string(machine.cwd().join("x.toml")).unwrap(),
        "a = 1\nb = 3\nc = 3\nd = 4\n"
    );
}

#[test]
fn the_book_can_be_built() {
    let here = Command::new("mdbook").arg("--version").output();
    if !here.is_ok_and(|output| output.status.success()) {
        return optional::skipped("mdbook", "it is not on the PATH");
    }
    optional::runs("mdbook");
    let out = tempfile::tempdir().unwrap();
    let built = Command::new("mdbook")
        .args([Path::new("build"), &guide(), Path::new("--dest-dir"), out.path()])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for name in chapters() {
        assert!(out.path().join(name).with_extension("html").is_file());
    }
}
