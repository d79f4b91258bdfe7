//! Staged validation: a draft, then three reviewers at once on that very draft, beside a check in plain Rust; what they
//! found goes into one more draft, the last.
//!
//! `cargo run --example validate` needs no key: the offline provider answers. The plugin `publish` is the same as a
//! sub-agent; here the stages are this program's.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::sync::Arc;

use agenthost::config::{Config, Env};
use agenthost::host::{Host, LoadedPlugin};
use agenthost::limits::LimitsPatch;
use serde_json::{Value, json};

const REVIEWERS: [&str; 3] = ["fact-check", "brand-voice", "security-review"];

struct Desk {
    host: Host,
    draft: Arc<LoadedPlugin>,
    reviewers: Vec<Arc<LoadedPlugin>>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Host::builder(Config::load(&Env::from_process()?)?).build()?;
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let draft = Arc::new(host.load(&plugins.join("draft")).await?);
    let mut reviewers = Vec::new();
    for name in REVIEWERS {
        reviewers.push(Arc::new(host.load(&plugins.join(name)).await?));
    }
    let desk = Desk { host, draft, reviewers };

    let order = std::fs::read_to_string(plugins.join("draft/input.json"))?;
    let mut document = desk.write(&serde_json::from_str(&order)?).await?;
    let mut issues = desk.review(&document).await?;
    println!("the first draft has {} issues", issues.len());
    if !issues.is_empty() {
        let revision = json!({"revise": {"document": document, "issues": issues}});
        document = desk.write(&revision).await?;
        issues = desk.review(&document).await?;
        println!("the second draft has {} issues", issues.len());
    }
    println!(
        "{:#}",
        json!({"passes": issues.is_empty(), "document": document, "issues": issues})
    );
    Ok(())
}

impl Desk {
    async fn write(&self, order: &Value) -> anyhow::Result<Value> {
        let run = self.host.spawn(&self.draft, order, &LimitsPatch::default())?;
        Ok(run.outcome().await.into_result()?)
    }

    /// All that the reviewers hold against a draft. A draft that one of them could not look at does not pass.
    async fn review(&self, document: &Value) -> anyhow::Result<Vec<Value>> {
        let start = |reviewer| self.host.spawn(reviewer, document, &LimitsPatch::default());
        let runs = self.reviewers.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let mut issues = Vec::new();
        if document["text"].as_str().is_none_or(|text| text.len() > 2_000) {
            let remedy = "Cut it down to what the reader has to know.";
            issues
                .push(json!({"fault": "unclear", "passage": "", "problem": "The text is too long.", "remedy": remedy}));
        }
        for run in runs {
            let found = run.outcome().await.into_result()?;
            for issue in found.as_array().into_iter().flatten() {
                let known = |known: &Value| known["passage"] == issue["passage"] && known["fault"] == issue["fault"];
                if !issues.iter().any(known) {
                    issues.push(issue.clone());
                }
            }
        }
        Ok(issues)
    }
}
