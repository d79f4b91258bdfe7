//! Looks in a draft for content that must not be published: secrets, personal data, harmful advice. One call of the
//! fast model.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const CHECKER: &str = "You review texts before they are published. Report only secrets, people's data, internal \
                       details, and advice that harms whoever follows it; all else is not your business. That nothing \
                       is wrong is a good answer.";

/// What the model is asked for.
#[derive(Deserialize, JsonSchema)]
struct Found {
    /// The issues, the gravest first; empty where there is nothing to object to.
    issues: Vec<Issue>,
}

async fn run(draft: Document) -> Result<Vec<Issue>, Failure> {
    let found: Found = Prompt::new("Review the text for what must not be published.")
        .data("audience", &draft.brief.audience)
        .data("title", &draft.title)
        .data("text", &draft.text)
        .system(CHECKER)
        .max_tokens(1500)
        .json()
        .await?;
    Ok(found.issues)
}
