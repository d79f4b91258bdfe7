//! Outputs the given text in every way that a guest has: logs, progress, output, failures and panics.
#![expect(clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(path = "wit/says");

async fn run(input: Words) -> Result<String, Failure> {
    if let Some(log) = &input.log {
        println!("{log}");
        eprintln!("{log}");
    }
    if let Some(words) = input.panics {
        panic!("{words}");
    }
    let mut answer = String::new();
    if let Some(words) = &input.progress {
        agenthost_sdk::progress(1, 3, words);
        answer = Prompt::new(words).text().await?;
        agenthost_sdk::progress(2, 3, words);
    }
    match input.fails {
        Some(reason) => Err(Failure::failed(reason)),
        None => Ok(answer),
    }
}
