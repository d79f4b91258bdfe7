//! Reduces the requirements of a failed job to those that can be met. One call of the fast model.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const EDITOR: &str =
    "You cut work down to its core: the smallest piece that is useful by itself. You name what you cut.";

async fn run(setback: Setback) -> Result<Simplification, Failure> {
    let simplification = Prompt::new(
        "Writing this program failed. Restate the requirements so that they are easier to meet, and name only those \
         files that are needed for what is left.",
    )
    .data("language", &setback.language)
    .data("requirements", &setback.requirements)
    .data("files", setback.files.join("\n"))
    .data("failure", setback.failure.to_string())
    .system(EDITOR)
    .max_tokens(2000)
    .json()
    .await?;
    Ok(simplification)
}
