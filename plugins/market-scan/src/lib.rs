//! Looks into several companies at once, one `competitor` each, and has `compare` put the reports side by side.
//!
//! A company that could not be looked into does not stop the comparison: it is named there, with its failure.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

/// How many companies are looked into at once. The host holds the model calls back as its quota asks; this holds back
/// sandboxes.
const MAX_CONCURRENT: usize = 8;

async fn run(market: Market) -> Result<Comparison, Failure> {
    let branches = market.companies.iter().map(|company| {
        let topic = competitor::Topic {
            company: company.clone(),
            questions: market.questions.clone(),
        };
        branch(company, competitor::run(topic))
    });
    let (done, failed) = join::split(join::settled(branches).max_concurrent(MAX_CONCURRENT).await);
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
