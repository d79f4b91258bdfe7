//! Writes a document to a brief, or revises it to fix the issues raised against it. One call of the fast model.
//!
//! Left out: checking the result, which is the job of other plugins.

use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json;

agenthost_sdk::plugin!();

const WRITER: &str = "You write for other people. Keep to the brief: state as a fact only what it gives as one, write \
                      for its audience and in its voice.";

/// The model's answer.
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

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    fn brief() -> Brief {
        Brief {
            subject: "The new office".to_owned(),
            audience: "customers".to_owned(),
            facts: vec!["It opens in May.".to_owned()],
            voice: "plain".to_owned(),
        }
    }

    #[test]
    fn a_document_keeps_its_brief() {
        let host = Host::new().model(
            "fast",
            [Reply::json(json!({"title": "Moving", "text": "We move in May."}))],
        );
        let document = host.run(run(Order::Write(brief()))).unwrap();
        assert_eq!((document.brief, document.title.as_str()), (brief(), "Moving"));
        let asked = host.requests()[0].text();
        assert!(
            asked.contains("It opens in May.") && !asked.contains("<issues>"),
            "{asked}"
        );
    }

    #[test]
    fn a_revision_sees_the_draft_and_its_issues() {
        let document = Document {
            brief: brief(),
            title: "Moving".to_owned(),
            text: "We move in June.".to_owned(),
        };
        let issues = vec![Issue {
            fault: Fault::WrongFact,
            passage: "June".to_owned(),
            problem: "It is May.".to_owned(),
            remedy: "Say May.".to_owned(),
        }];
        let host = Host::new().model("fast", [Reply::error(llm::Error::Refused("no".to_owned()))]);
        let failed = host.run(run(Order::Revise(Revision { document, issues })));
        assert_eq!(failed, Err(Failure::Model("the model declined: no".to_owned())));
        let asked = host.requests()[0].text();
        assert!(
            asked.contains("We move in June.") && asked.contains("\"fault\":\"wrong-fact\""),
            "{asked}"
        );
    }
}
