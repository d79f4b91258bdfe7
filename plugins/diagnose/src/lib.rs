//! Explains why a job failed, and whether it was the right job. One call of the fast model.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const DIAGNOSTICIAN: &str = "You look for causes. You say when a question is the wrong one, and when you do not know.";

async fn run(setback: Setback) -> Result<Diagnosis, Failure> {
    let diagnosis = Prompt::new(
        "Writing this program failed. Say why, and whether the requirements are the right problem to solve. If they \
         are not, state the right one and name only those files that it needs.",
    )
    .data("language", &setback.language)
    .data("requirements", &setback.requirements)
    .data("files", setback.files.join("\n"))
    .data("failure", setback.failure.to_string())
    .system(DIAGNOSTICIAN)
    .max_tokens(1500)
    .json()
    .await?;
    Ok(diagnosis)
}
