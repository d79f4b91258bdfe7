//! Starts a sub-task for each prompt, asks a model meanwhile, and asks it again when all have ended.

use agenthost_sdk::prelude::*;
use futures_util::future::join;

agenthost_sdk::plugin!(path = "wit/gathers");

async fn run(input: Gathering) -> Result<Vec<String>, Failure> {
    let ask = async |when: &str| {
        let prompt = format!("{} {when}", input.question);
        Prompt::new(prompt).max_tokens(100).text().await
    };
    let started = input.prompts.into_iter().map(touches::run);
    let (answers, meanwhile) = join(join_all(started), ask("meanwhile")).await;
    let mut told = Vec::new();
    for answer in answers {
        told.push(match answer {
            Err(failure) if input.tolerant => format!("{failure:?}"),
            answer => answer?,
        });
    }
    told.extend([meanwhile?, ask("at the end").await?]);
    Ok(told)
}
