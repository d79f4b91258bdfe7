//! Turns reports about several companies into one comparison, with one call of the strong model.
//!
//! This code lists the companies without a report, and those whose reports are from memory; the model only learns of
//! them. A standing has only sources of its company's report. Left out: checking the contents of the reports.

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
    aspects: Vec<Respect>,
}

/// An aspect as the model writes it.
#[derive(Deserialize, JsonSchema)]
struct Respect {
    /// The respect, in a few words.
    name: String,
    /// Each company's standing, the strongest first.
    standings: Vec<Position>,
}

/// A standing as the model writes it.
#[derive(Deserialize, JsonSchema)]
struct Position {
    /// The company, named as in its report.
    company: String,
    /// One sentence.
    position: String,
    /// The addresses of the sources in the company's report that support it.
    sources: Vec<String>,
}

impl Position {
    /// Returns the standing with those of its sources that the company's reports have, or that any report has if none is
    /// about a company of this name.
    fn checked(self, reports: &[competitor::Report]) -> Standing {
        let mut sources: Vec<competitor::Source> = Vec::new();
        let name = |company: &str| company.trim().to_lowercase();
        let is_own = |report: &&competitor::Report| name(&report.company) == name(&self.company);
        let has_own = reports.iter().any(|report| is_own(&report));
        let known = reports
            .iter()
            .filter(|report| !has_own || is_own(report))
            .flat_map(|report| &report.findings)
            .flat_map(|finding| &finding.sources);
        for source in known {
            if self.sources.contains(&source.url) && !sources.iter().any(|listed| listed.url == source.url) {
                sources.push(source.clone());
            }
        }
        Standing {
            company: self.company,
            position: self.position,
            sources,
        }
    }
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
    let aspect = |respect: Respect| Aspect {
        name: respect.name,
        standings: respect
            .standings
            .into_iter()
            .map(|position| position.checked(&material.reports))
            .collect(),
    };
    Ok(Comparison {
        summary,
        aspects: aspects.into_iter().map(aspect).collect(),
        from_memory: material
            .reports
            .iter()
            .filter(|report| report.from_memory)
            .map(|report| report.company.clone())
            .collect(),
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
            findings: vec![competitor::Finding {
                claim: "It sells robots.".to_owned(),
                support: "A page.".to_owned(),
                sources: vec![competitor::Source {
                    url: format!("https://example.com/{company}"),
                    title: None,
                }],
            }],
            confidence: 0.5,
            from_memory: *company == "Initech",
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
        let sources = ["Initech", "Acme", "made-up"].map(|page| format!("https://example.com/{page}"));
        let standing = |company: &str| json!({"company": company, "position": "Cheap.", "sources": sources});
        let standings = ["Acme", "initech ", "Acme Inc."].map(standing);
        let reply = json!({"summary": "They are alike.", "aspects": [{"name": "Price", "standings": standings}]});
        let host = Host::new().model("strong", [Reply::json(reply)]);
        let comparison = host.run(run(material(&["Acme", "Initech"]))).unwrap();
        assert_eq!(comparison.missing, material(&[]).missing);
        assert_eq!(comparison.aspects[0].name, "Price");
        let sources = comparison.aspects[0].standings.iter().map(|standing| {
            let urls = standing.sources.iter().map(|source| source.url.as_str());
            urls.collect::<Vec<_>>()
        });
        let (acme, initech) = ("https://example.com/Acme", "https://example.com/Initech");
        let expected = [vec![acme], vec![initech], vec![acme, initech]];
        assert_eq!(sources.collect::<Vec<_>>(), expected, "no report has the last name");
        assert_eq!(comparison.from_memory, ["Initech"]);
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
