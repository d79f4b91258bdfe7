//! Recovery: a failure is a value with a class, so what to do about it is a `match`: more of what ran out, another
//! plugin, or giving up.
//!
//! `cargo run --example recover` needs no key: the offline provider answers. The job's file does not fit the limit of
//! tokens, and the first attempt has too little fuel besides.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
#![expect(clippy::indexing_slicing, reason = "a field that JSON lacks is null")]

use std::path::Path;
use std::sync::Arc;

use agenthost::config::{Config, Env};
use agenthost::host::Host;
use agenthost::limits::{Cap, LimitKind, LimitsPatch};
use agenthost::task::{FailureClass, Outcome};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Host::builder(Config::load(&Env::from_process()?)?).build()?;
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let generate = Arc::new(host.load(&plugins.join("generate")).await?);
    let simplify = Arc::new(host.load(&plugins.join("simplify")).await?);

    let table = "id,name,price\n".repeat(20_000);
    let mut job = json!({
        "language": "Rust",
        "requirements": "Read the table and print the sum of its prices.",
        "files": [{"name": "table.csv", "text": table}],
    });
    let mut fuel = 100_000;
    for attempt in 1..=4 {
        let limits = LimitsPatch {
            fuel: Some(Cap::At(fuel)),
            tokens: Some(Cap::At(20_000)),
            ..LimitsPatch::default()
        };
        let failure = match host.spawn(&generate, &job, &limits)?.outcome().await {
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
                let setback = json!({
                    "language": job["language"],
                    "requirements": job["requirements"],
                    "files": [format!("table.csv ({} bytes)", table.len())],
                    "failure": failure.to_contract_json(),
                });
                let run = host.spawn(&simplify, &setback, &LimitsPatch::default())?;
                let smaller = run.outcome().await.into_result()?;
                job["requirements"] = smaller["plan"]["requirements"].clone();
                job["files"] = json!([]);
            }
            // A trap would only come again, and a denial is the operator's word.
            _ => return Err(failure.into()),
        }
    }
    anyhow::bail!("no program after four attempts")
}
