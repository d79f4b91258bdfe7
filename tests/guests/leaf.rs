//! Asks a model once, and answers with its words.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(path = "wit/leaf");

async fn run(input: String) -> Result<String, Failure> {
    match input.strip_prefix('=') {
        Some(answer) => Ok(answer.to_owned()),
        None => Ok(Prompt::new(input).max_tokens(100).text().await?),
    }
}
