//! Events: watches a run from the side, while the program goes on with something else.
//!
//! `cargo run --example events` needs no key: the offline provider answers.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use agenthost::config::Env;
use agenthost::{Config, Event, Host};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Host::builder().config(Config::load(&Env::from_process()?)?).build()?;
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let competitor = host.load(plugins.join("competitor")).await?;

    let questions = ["What does it sell?", "How does it charge?"];
    let input = json!({"company": "Acme Robotics", "questions": questions});
    let run = host.run(&competitor, &input).start()?;

    let mut events = run.events();
    let watcher = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => println!("  {}", in_words(&event)),
                Err(lagged) => println!("  ({lagged})"),
            }
        }
    });

    println!(
        "the run {} is under way, and this program does something else:",
        run.id()
    );
    let sum: u64 = (1..=1_000).sum();
    println!("the numbers up to 1,000 add up to {sum}");

    let report = run.report().await;
    watcher.await?;
    let tokens = report.spent.input_tokens + report.spent.output_tokens;
    println!("{} calls, {tokens} tokens", report.spent.calls);
    Ok(())
}

fn in_words(event: &Event) -> String {
    let task = event.task();
    match event {
        Event::Started { plugin, .. } => format!("{task}: {plugin} started"),
        Event::Progress { message, .. } => format!("{task}: {message}"),
        Event::CallSent { model, .. } => format!("{task}: asks {model}"),
        Event::CallSettled { spent, .. } => format!("{task}: {} output tokens so far", spent.output_tokens),
        Event::Ended { report, .. } => match report.outcome.failure() {
            Some(failure) => format!("{task}: {failure}"),
            None => format!("{task}: done"),
        },
        other => format!("{task}: {other:?}"),
    }
}
