//! Fan-out: runs `competitor` for each company, all at once, and then `compare` over the reports.
//!
//! `cargo run --example fan_out` needs no key: the offline provider answers. One company is allowed a single call,
//! which is too little, so the comparison names it as missing and has the others.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use agenthost::config::Env;
use agenthost::{Config, Host, Limits, Outcome};
use serde_json::{Value, json};

const COMPANIES: [&str; 4] = ["Acme Robotics", "Initech", "Globex", "Umbrella"];
const QUESTIONS: [&str; 2] = ["What does it sell, and to whom?", "How does it charge?"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Host::builder().config(Config::load(&Env::from_process()?)?).build()?;
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let competitor = host.load(plugins.join("competitor")).await?;
    let compare = host.load(plugins.join("compare")).await?;

    let mut runs = Vec::new();
    for company in COMPANIES {
        let run = host.run(&competitor, &json!({"company": company, "questions": QUESTIONS}));
        let run = match company {
            "Initech" => run.limits(Limits::new().calls(1)),
            _ => run,
        };
        // Returns at once; the run goes on for as long as its handle lives.
        runs.push((company, run.start()?));
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
    let comparison: Value = host.run(&compare, &material).await?.output()?;
    println!("{comparison:#}");
    Ok(())
}
