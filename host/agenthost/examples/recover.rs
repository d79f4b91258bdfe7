//! Recovery: a failure is a value with a class, so the program matches on it: more of what ran out, another plugin, or
//! giving up.
//!
//! `cargo run --example recover` needs no key: the offline provider answers. The job's file does not fit the limit of
//! tokens, and the first attempt has too little fuel besides.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use agenthost::config::Env;
use agenthost::{Config, FailureClass, Host, LimitKind, Limits, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize)]
struct Job {
    language: String,
    requirements: String,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    name: String,
    text: String,
}

#[derive(Deserialize)]
struct Simplification {
    plan: Plan,
}

#[derive(Deserialize)]
struct Plan {
    requirements: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Host::builder().config(Config::load(&Env::from_process()?)?).build()?;
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let generate = host.load(plugins.join("generate")).await?;
    let simplify = host.load(plugins.join("simplify")).await?;

    let mut job = Job {
        language: "Rust".into(),
        requirements: "Read the table and print the sum of its prices.".into(),
        files: vec![File {
            name: "table.csv".into(),
            text: "id,name,price\n".repeat(20_000),
        }],
    };
    let mut fuel = 100_000;
    for attempt in 1..=4 {
        let report = host
            .run(&generate, &job)
            .limits(Limits::new().fuel(fuel).tokens(20_000))
            .await?;
        let failure = match report.outcome {
            Outcome::Ok(program) => {
                println!("attempt {attempt}: done\n{program:#}");
                return Ok(());
            }
            Outcome::Failure(failure) => failure,
        };
        println!("attempt {attempt}: {failure}");
        match (failure.class, failure.limit) {
            (FailureClass::Exhausted, Some(LimitKind::Fuel)) => {
                println!("  computing is cheap: once more with a thousand times the fuel");
                fuel *= 1_000;
            }
            (FailureClass::ContextOverflow, _) | (FailureClass::Exhausted, Some(LimitKind::Tokens)) => {
                println!("  too much to read: another plugin cuts the job down");
                let files = job.files.drain(..);
                let files: Vec<_> = files
                    .map(|file| format!("{} ({} bytes)", file.name, file.text.len()))
                    .collect();
                let setback = json!({
                    "language": job.language,
                    "requirements": job.requirements,
                    "files": files,
                    "failure": failure.to_contract_json(),
                });
                let smaller: Simplification = host.run(&simplify, &setback).await?.output()?;
                job.requirements = smaller.plan.requirements;
            }
            // A trap would only come again, and a denial is the operator's decision.
            _ => return Err(failure.into()),
        }
    }
    anyhow::bail!("no program after four attempts")
}
