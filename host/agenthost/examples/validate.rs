//! Staged validation: a draft, then three reviewers at once on that draft, next to a check in plain Rust. Their findings
//! go into one more draft, the last.
//!
//! `cargo run --example validate` needs no key: the offline provider answers. The plugin `publish` does the same with
//! sub-agents; here the stages belong to this program.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use agenthost::config::Env;
use agenthost::{Config, Host, Plugin};
use serde_json::{Value, json};

const REVIEWERS: [&str; 3] = ["fact-check", "brand-voice", "security-review"];

struct Desk {
    host: Host,
    draft: Plugin,
    reviewers: Vec<Plugin>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Host::builder().config(Config::load(&Env::from_process()?)?).build()?;
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let draft = host.load(plugins.join("draft")).await?;
    let mut reviewers = Vec::new();
    for name in REVIEWERS {
        reviewers.push(host.load(plugins.join(name)).await?);
    }
    let desk = Desk { host, draft, reviewers };

    let order: Value = serde_json::from_str(&std::fs::read_to_string(plugins.join("draft/input.json"))?)?;
    let mut document = desk.write(&order).await?;
    let mut issues = desk.review(&document).await?;
    println!("the first draft has {} issues", issues.len());
    if !issues.is_empty() {
        document = desk
            .write(&json!({"revise": {"document": document, "issues": issues}}))
            .await?;
        issues = desk.review(&document).await?;
        println!("the second draft has {} issues", issues.len());
    }
    let result = json!({"passes": issues.is_empty(), "document": document, "issues": issues});
    println!("{result:#}");
    Ok(())
}

impl Desk {
    async fn write(&self, order: &Value) -> anyhow::Result<Value> {
        Ok(self.host.run(&self.draft, order).await?.output()?)
    }

    /// Returns all issues of a draft. A draft that a reviewer could not look at does not pass.
    async fn review(&self, document: &Value) -> anyhow::Result<Vec<Value>> {
        let start = |reviewer| self.host.run(reviewer, document).start();
        let runs = self.reviewers.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let mut issues = Vec::new();
        if document["text"].as_str().is_none_or(|text| text.len() > 2_000) {
            let remedy = "Cut it down to what the reader has to know.";
            issues
                .push(json!({"fault": "unclear", "passage": "", "problem": "The text is too long.", "remedy": remedy}));
        }
        for run in runs {
            let found: Vec<Value> = run.report().await.output()?;
            for issue in found {
                let same = |known: &Value| ["passage", "fault"].iter().all(|key| known.get(key) == issue.get(key));
                if !issues.iter().any(same) {
                    issues.push(issue);
                }
            }
        }
        Ok(issues)
    }
}
