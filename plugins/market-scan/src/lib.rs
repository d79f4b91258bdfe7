//! Looks into several companies at once, one `competitor` each, and has `compare` put the reports side by side.
//!
//! If a company's report fails, the others are still compared, and the comparison lists that company with its failure.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

/// How many companies are looked into at once. The host holds the model calls back as its quota asks; this holds back
/// sandboxes.
const AT_ONCE: usize = 8;

async fn run(market: Market) -> Result<Comparison, Failure> {
    let lanes = market.companies.iter().map(|company| {
        let topic = competitor::Topic {
            company: company.clone(),
            questions: market.questions.clone(),
        };
        lane(company, competitor::run(topic))
    });
    let (done, failed) = join::split(join::settled(lanes).at_once(AT_ONCE).await);
    if done.is_empty() {
        let first = failed.into_iter().next();
        return Err(first.map_or(Failure::failed("no companies to compare"), Failure::from));
    }
    progress(1, 2, "comparing the companies");

    let missing = failed.into_iter().map(|lane| compare::Missing {
        company: lane.name,
        failure: lane.value,
    });
    compare::run(compare::Material {
        missing: missing.collect(),
        reports: done.into_iter().map(|lane| lane.value).collect(),
        questions: market.questions,
    })
    .await
}
