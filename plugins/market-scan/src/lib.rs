//! Looks into several companies at once, one `competitor` each, and has `compare` put the reports side by side.
//!
//! If a company's report fails, the others are still compared, and the comparison lists that company with its failure.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

/// The number of companies that are looked into at once. The host limits the model calls by its quota; this limits the
/// sandboxes.
const MAX_CONCURRENT: usize = 8;

/// The tokens with which a report is of use: for its summary, and for each question.
const LEAST_TOKENS: (u64, u64) = (600, 200);

async fn run(market: Market) -> Result<Comparison, Failure> {
    let branches = market.companies.iter().map(|company| {
        let topic = competitor::Topic {
            company: company.clone(),
            questions: market.questions.clone(),
        };
        branch(company, competitor::run(topic))
    });
    let least = LEAST_TOKENS.0 + LEAST_TOKENS.1 * market.questions.len().max(1) as u64;
    let results = join::settled(branches)
        .max_concurrent(MAX_CONCURRENT)
        .split_equally()
        .least_tokens(least)
        .await;
    let (done, failed) = join::split(results);
    if done.is_empty() {
        let first = failed.into_iter().next();
        return Err(first.map_or(Failure::failed("no companies to compare"), Failure::from));
    }
    progress(1, 2, "comparing the companies");

    let missing = failed.into_iter().map(|branch| compare::Missing {
        company: branch.name,
        failure: branch.value,
    });
    compare::run(compare::Material {
        missing: missing.collect(),
        reports: done.into_iter().map(|branch| branch.value).collect(),
        questions: market.questions,
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use agenthost_sdk::testing::{Host, sleep};

    fn market(companies: usize) -> Market {
        Market {
            companies: (0..companies).map(|n| format!("company {n}")).collect(),
            questions: vec!["What does it cost?".to_owned()],
        }
    }

    fn host() -> Host {
        let host = Host::new().sub_agent(compare::run, |material| {
            Ok(Comparison {
                summary: format!("{} reports", material.reports.len()),
                aspects: vec![],
                missing: material.missing,
                from_memory: vec![],
            })
        });
        host.sub_agent_async(competitor::run, async |topic| {
            sleep(Duration::from_secs(1)).await;
            match topic.company.as_str() {
                "company 1" => Err(Failure::Exhausted(Limit::Tokens)),
                _ => Ok(competitor::Report {
                    company: topic.company,
                    summary: String::new(),
                    findings: vec![],
                    confidence: 1.0,
                    from_memory: true,
                }),
            }
        })
    }

    #[test]
    fn a_company_that_fails_is_named_and_does_not_stop_the_others() {
        let host = host();
        let comparison = host.run(run(market(20))).unwrap();
        assert_eq!(comparison.summary, "19 reports");
        let missing = compare::Missing {
            company: "company 1".to_owned(),
            failure: Failure::Exhausted(Limit::Tokens),
        };
        assert_eq!(comparison.missing, [missing]);
        assert_eq!(
            (host.most_concurrent(), host.elapsed()),
            (MAX_CONCURRENT, Duration::from_secs(3))
        );
        assert_eq!(host.inputs(compare::run)[0].questions, ["What does it cost?"]);
        let shares = host.shares(competitor::run);
        assert_eq!(
            (shares[19][0].part, shares[19][0].parts, shares[19][0].least_tokens),
            (19, 20, 800),
            "no company spends what another needs"
        );
        assert!(
            host.shares(compare::run)[0].is_empty(),
            "the comparison has all that is left"
        );
    }

    #[test]
    fn without_a_report_nothing_is_compared() {
        let host = Host::new().sub_agent(competitor::run, |_| Err(Failure::Denied("fast".to_owned())));
        assert_eq!(host.run(run(market(2))), Err(Failure::Denied("fast".to_owned())));
        assert_eq!(
            host.run(run(market(0))),
            Err(Failure::failed("no companies to compare"))
        );
    }
}
