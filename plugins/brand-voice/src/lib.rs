//! Checks a draft against the voice and the audience of its brief. One call of the fast model.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const CHECKER: &str = "You keep a brand's voice. Report only passages that do not sound as the voice asks, or that the \
                       audience would not understand; whether a statement is true is not your business. That nothing \
                       is wrong is a good answer.";

/// What the model is asked for.
#[derive(Deserialize, JsonSchema)]
struct Found {
    /// The issues, the gravest first; empty where there is nothing to object to.
    issues: Vec<Issue>,
}

async fn run(draft: Document) -> Result<Vec<Issue>, Failure> {
    let found: Found = Prompt::new("Check how the text sounds.")
        .data("voice", &draft.brief.voice)
        .data("audience", &draft.brief.audience)
        .data("title", &draft.title)
        .data("text", &draft.text)
        .system(CHECKER)
        .max_tokens(1500)
        .json()
        .await?;
    Ok(found.issues)
}
