//! Fan-out: a run of `competitor` for each company, all at once, and one of `compare` over what came back.
//!
//! `cargo run --example fan_out` needs no key: the offline provider answers. One company is allowed a single call,
//! which is too little, so the comparison names it as missing and has the others.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::sync::Arc;

use agenthost::config::{Config, Env};
use agenthost::host::Host;
use agenthost::limits::{Cap, LimitsPatch};
use agenthost::task::Outcome;
use serde_json::json;

const COMPANIES: [&str; 4] = ["Acme Robotics", "Initech", "Globex", "Umbrella"];
const QUESTIONS: [&str; 2] = ["What does it sell, and to whom?", "How does it charge?"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Host::builder(Config::load(&Env::from_process()?)?).build()?;
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let competitor = Arc::new(host.load(&plugins.join("competitor")).await?);
    let compare = Arc::new(host.load(&plugins.join("compare")).await?);

    let one_call = LimitsPatch {
        calls: Some(Cap::At(1)),
        ..LimitsPatch::default()
    };
    let mut runs = Vec::new();
    for company in COMPANIES {
        let limits = match company {
            "Initech" => &one_call,
            _ => &LimitsPatch::default(),
        };
        // Returns at once; the run continues by itself as long as its handle lives.
        let run = host.spawn(
            &competitor,
            &json!({"company": company, "questions": QUESTIONS}),
            limits,
        )?;
        runs.push((company, run));
    }
    println!("{} runs are under way", runs.len());

    let (mut reports, mut missing) = (Vec::new(), Vec::new());
    for (company, run) in runs {
        match run.outcome().await {
            Outcome::Ok(report) => reports.push(report),
            Outcome::Failure(failure) => {
                println!("no report about {company}: {failure}");
                missing.push(json!({"company": company, "failure": failure.to_contract_json()}));
            }
        }
    }

    let material = json!({"questions": QUESTIONS, "reports": reports, "missing": missing});
    let run = host.spawn(&compare, &material, &LimitsPatch::default())?;
    let comparison = run.outcome().await.into_result()?;
    println!("{comparison:#}");
    Ok(())
}
