//! Checks a draft against the facts of its brief: claims that contradict them or go beyond them. One call of the fast
//! model.
//!
//! Left out: whether the facts themselves are true.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const CHECKER: &str = "You check facts. The facts given are all that counts as known. Report only statements of fact \
                       that contradict them or go beyond them; how the text sounds is not your business. That nothing \
                       is wrong is a good answer.";

/// What the model is asked for.
#[derive(Deserialize, JsonSchema)]
struct Found {
    /// The issues, the gravest first; empty where there is nothing to object to.
    issues: Vec<Issue>,
}

async fn run(draft: Document) -> Result<Vec<Issue>, Failure> {
    let found: Found = Prompt::new("Check the text against the facts.")
        .data("facts", draft.brief.facts.join("\n"))
        .data("title", &draft.title)
        .data("text", &draft.text)
        .system(CHECKER)
        .max_tokens(1500)
        .json()
        .await?;
    Ok(found.issues)
}
