//! Answers one task with one model call, as text or as JSON that satisfies a schema.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

async fn run(input: Question) -> Result<String, Failure> {
    let mut prompt = Prompt::new(input.task);
    for document in input.documents.unwrap_or_default() {
        prompt = prompt.data("document", format!("{}:\n{}", document.name, document.text));
    }
    if let Some(model) = input.model {
        prompt = prompt.model(model);
    }
    if let Some(system) = input.system {
        prompt = prompt.system(system);
    }
    if let Some(tokens) = input.max_tokens {
        prompt = prompt.max_tokens(tokens);
    }
    if let Some(schema) = input.schema {
        prompt = prompt.schema(schema);
    }
    Ok(prompt.json_text().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::testing::{Host, Reply};

    fn question() -> Question {
        Question {
            task: "Summarize the notes.".to_owned(),
            documents: None,
            model: None,
            system: None,
            schema: None,
            max_tokens: None,
        }
    }

    #[test]
    fn the_answer_is_a_json_string() {
        let host = Host::new().model("fast", [Reply::text("She said \"no\".")]);
        assert_eq!(host.run(run(question())), Ok(r#""She said \"no\".""#.to_owned()));
        let request = &host.requests()[0];
        assert_eq!(
            (request.text(), request.max_tokens),
            ("Summarize the notes.".to_owned(), None)
        );
    }

    #[test]
    fn everything_given_reaches_the_model() {
        let host = Host::new().model("strong", [Reply::text(r#"{"count": 2}"#)]);
        let document = |name: &str| Document {
            name: name.to_owned(),
            text: format!("text of {name}"),
        };
        let asked = Question {
            documents: Some(vec![document("notes"), document("minutes")]),
            model: Some("strong".to_owned()),
            system: Some("You are brief.".to_owned()),
            schema: Some(r#"{"type": "object"}"#.to_owned()),
            max_tokens: Some(50),
            ..question()
        };
        assert_eq!(host.run(run(asked)), Ok(r#"{"count": 2}"#.to_owned()));
        let request = &host.requests()[0];
        assert_eq!(
            request.text(),
            "Summarize the notes.\n<document>\nnotes:\ntext of notes\n</document>\n<document>\nminutes:\ntext of \
             minutes\n</document>"
        );
        assert!(
            request
                .system
                .as_deref()
                .is_some_and(|system| system.contains("You are brief."))
        );
        assert_eq!(request.schema.as_deref(), Some(r#"{"type": "object"}"#));
        assert_eq!(request.max_tokens, Some(50));
    }

    #[test]
    fn a_failed_call_is_the_failure() {
        let host = Host::new().model("fast", [Reply::error(llm::Error::Exhausted(Limit::Cost))]);
        assert_eq!(host.run(run(question())), Err(Failure::Exhausted(Limit::Cost)));
    }
}
