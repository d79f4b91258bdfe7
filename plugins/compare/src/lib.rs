//! Turns reports about several companies into one comparison, with one call of the strong model.
//!
//! This code lists the companies without a report; the model only learns that they are missing. Left out: checking the
//! contents of the reports.

use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json;

agenthost_sdk::plugin!();

const ANALYST: &str = "You are a market analyst. Compare by what the reports say and nothing else; where a report is \
                       silent or unsure, say so.";

/// The model's answer.
#[derive(Deserialize, JsonSchema)]
struct Compared {
    /// Three to five sentences: the main differences, and the open questions.
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

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    fn material(companies: &[&str]) -> Material {
        let report = |company: &&str| competitor::Report {
            company: (*company).to_owned(),
            summary: "It sells robots.".to_owned(),
            findings: vec![],
            confidence: 0.5,
        };
        Material {
            questions: vec!["What does it cost?".to_owned()],
            reports: companies.iter().map(report).collect(),
            missing: vec![Missing {
                company: "Globex".to_owned(),
                failure: Failure::Exhausted(Limit::Time),
            }],
        }
    }

    #[test]
    fn the_strong_model_compares_and_the_code_names_what_is_missing() {
        let reply = json!({"summary": "They are alike.", "aspects": [{"name": "Price", "standings": []}]});
        let host = Host::new().model("strong", [Reply::json(reply)]);
        let comparison = host.run(run(material(&["Acme", "Initech"]))).unwrap();
        assert_eq!(comparison.missing, material(&[]).missing);
        assert_eq!(comparison.aspects[0].name, "Price");
        let asked = host.requests()[0].text();
        assert_eq!(asked.matches("<report>").count(), 2);
        assert!(asked.contains("<no-report>\nGlobex\n</no-report>"), "{asked}");
    }

    #[test]
    fn without_a_report_no_model_is_asked() {
        let host = Host::new();
        assert_eq!(
            host.run(run(material(&[]))),
            Err(Failure::failed("no report to compare"))
        );
        assert_eq!(host.requests(), []);
    }
}
