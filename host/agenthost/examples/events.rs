//! Events: a program watches a run while it does other work.
//!
//! `cargo run --example events` needs no key: the offline provider answers.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::sync::Arc;

use agenthost::config::{Config, Env};
use agenthost::host::Host;
use agenthost::limits::LimitsPatch;
use agenthost::run::Event;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let host = Host::builder(Config::load(&Env::from_process()?)?).build()?;
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let competitor = Arc::new(host.load(&plugins.join("competitor")).await?);

    let questions = [
        "What does it sell?",
        "How does it charge?",
        "What do its customers complain about?",
    ];
    let input = json!({"company": "Acme Robotics", "questions": questions});
    let run = host.spawn(&competitor, &input, &LimitsPatch::default())?;

    let mut events = run.events();
    let watcher = tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(event) => println!("  {}", in_words(&event)),
                Err(RecvError::Lagged(missed)) => println!("  ({missed} events were too fast to be shown)"),
                // The run has ended.
                Err(RecvError::Closed) => break,
            }
        }
    });

    println!(
        "the run {} is under way, and this program does something else:",
        run.id()
    );
    let sum: u64 = (1..=1_000).sum();
    println!("the numbers up to 1,000 add up to {sum}");

    // The report can be asked for at any time, and again.
    let report = run.report().await;
    watcher.await?;
    println!(
        "{} calls, {} tokens",
        report.spent.calls,
        report.spent.input_tokens + report.spent.output_tokens
    );
    println!("{:#}", run.outcome().await.into_result()?);
    Ok(())
}

fn in_words(event: &Event) -> String {
    let task = event.task();
    match event {
        Event::Started { plugin, .. } => format!("{task}: {plugin} started"),
        Event::Progress { message, .. } => format!("{task}: {message}"),
        Event::CallSent { model, .. } => format!("{task}: asks {model}"),
        Event::CallRetried { error, wait, .. } => format!("{task}: asks again in {wait:?}: {error}"),
        Event::CallSettled { error: Some(error), .. } => format!("{task}: a call failed: {error}"),
        Event::CallSettled { spent, .. } => format!("{task}: {} output tokens so far", spent.output_tokens),
        Event::Ended { .. } => format!("{task}: ended"),
    }
}
