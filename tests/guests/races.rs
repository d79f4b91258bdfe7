//! Races two model calls, drops the loser, and makes a third call.

use std::pin::pin;

use agenthost_sdk::prelude::*;
use futures_util::future::select;

agenthost_sdk::plugin!(path = "wit/races");

async fn run(input: Race) -> Result<ResultOfRace, Failure> {
    let winner = {
        let (one, other) = (pin!(ask(input.one)), pin!(ask(input.other)));
        select(one, other).await.factor_first().0?
    };
    let after = ask(input.after).await?;
    Ok(ResultOfRace { winner, after })
}

async fn ask(prompt: String) -> Result<String, llm::Error> {
    Prompt::new(prompt).max_tokens(100).text().await
}
