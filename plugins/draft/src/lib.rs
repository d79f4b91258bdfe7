//! Writes a document to a brief, or revises it to fix the issues raised against it. One call of the fast model.
//!
//! Left out: checking the result, which is the job of other plugins.

use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json;

agenthost_sdk::plugin!();

const WRITER: &str = "You write for other people. Keep to the brief: state as a fact only what it gives as one, write \
                      for its audience and in its voice.";

/// What the model is asked for.
#[derive(Deserialize, JsonSchema)]
struct Written {
    /// The title, without markup.
    title: String,
    /// The text, without the title.
    text: String,
}

async fn run(order: Order) -> Result<Document, Failure> {
    let (brief, prompt) = match order {
        Order::Write(brief) => (brief, Prompt::new("Write a document to this brief.")),
        Order::Revise(Revision { document, issues }) => {
            let prompt = Prompt::new(
                "Mend the document where the issues ask for it, leave all else as it is, and keep to the brief.",
            )
            .data("title", &document.title)
            .data("text", &document.text)
            .data("issues", serde_json::to_string(&issues)?);
            (document.brief, prompt)
        }
    };
    let prompt = prompt.data("brief", serde_json::to_string(&brief)?).system(WRITER);
    let Written { title, text } = prompt.max_tokens(3000).json().await?;
    Ok(Document { brief, title, text })
}
