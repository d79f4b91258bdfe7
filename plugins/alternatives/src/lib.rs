//! Finds three other ways to do a failed job. One call of the fast model.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const SCOUT: &str = "You know many ways to build a thing, and what each of them costs.";

/// What the model is asked for.
#[derive(Deserialize, JsonSchema)]
struct Found {
    /// Three approaches that differ in kind, the most promising first.
    approaches: Vec<Approach>,
}

async fn run(setback: Setback) -> Result<Vec<Approach>, Failure> {
    let found: Found = Prompt::new(
        "Writing this program failed. Find three approaches that meet the same requirements in another way, and name \
         only those files that each of them needs.",
    )
    .data("language", &setback.language)
    .data("requirements", &setback.requirements)
    .data("files", setback.files.join("\n"))
    .data("failure", setback.failure.to_string())
    .system(SCOUT)
    .max_tokens(3000)
    .json()
    .await?;
    Ok(found.approaches)
}
