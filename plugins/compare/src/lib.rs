//! Turns reports about several companies into one comparison, with one call of the strong model.
//!
//! This code lists the companies without a report; the model only learns that they are missing. Left out: checking the
//! contents of the reports.

use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json;

agenthost_sdk::plugin!();

const ANALYST: &str = "You are a market analyst. Compare by what the reports say and nothing else; where a report is \
                       silent or unsure, say so.";

/// What the model is asked for.
#[derive(Deserialize, JsonSchema)]
struct Compared {
    /// Three to five sentences: the main differences, and what the reports leave open.
    summary: String,
    /// The respects in which the companies differ, the most important first.
    aspects: Vec<Aspect>,
}

async fn run(material: Material) -> Result<Comparison, Failure> {
    if material.reports.is_empty() {
        return Err(Failure::failed("no report to compare"));
    }
    let mut prompt = Prompt::new("Compare the companies by their reports, along the questions that they answer.")
        .system(ANALYST)
        .model("strong")
        .max_tokens(3000);
    for question in &material.questions {
        prompt = prompt.data("question", question);
    }
    for report in &material.reports {
        prompt = prompt.data("report", serde_json::to_string(report)?);
    }
    for missing in &material.missing {
        prompt = prompt.data("no-report", &missing.company);
    }
    let Compared { summary, aspects } = prompt.json().await?;
    Ok(Comparison {
        summary,
        aspects,
        missing: material.missing,
    })
}
