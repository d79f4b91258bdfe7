//! Answers one task for one item of a batch; the task names the fields of the item.
//!
//! Short fields are part of the task. Long ones are material that the model gets with it, so that a text of many lines
//! is not taken for instructions.

use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json::{self, Value};
use agenthost_sdk::template::fill;

agenthost_sdk::plugin!();

async fn run(input: Work) -> Result<String, Failure> {
    let item: Value =
        serde_json::from_str(&input.item).map_err(|error| Failure::failed(format!("the item: {error}")))?;
    let filled = fill(&input.task, &item).map_err(|error| Failure::failed(format!("the task: {error}")))?;
    let mut prompt = Prompt::new(filled.text);
    for (name, text) in filled.attached {
        prompt = prompt.data("field", format!("{name}:\n{text}"));
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

    fn work(task: &str, item: &str) -> Work {
        Work {
            task: task.to_owned(),
            item: item.to_owned(),
            model: None,
            system: None,
            schema: None,
            max_tokens: None,
        }
    }

    #[test]
    fn the_fields_of_the_item_are_part_of_the_task() {
        let host = Host::new().model("fast", [Reply::text("heating"), Reply::text("9")]);
        let ticket = r#"{"subject": "No hot water", "body": "Since Monday.\nPlease help."}"#;
        let answer = host.run(run(work("Classify: {{subject}} {{body}}", ticket)));
        assert_eq!(answer, Ok("\"heating\"".to_owned()));
        assert_eq!(
            host.requests()[0].text(),
            "Classify: No hot water `body`\n<field>\nbody:\nSince Monday.\nPlease help.\n</field>"
        );
        let with_schema = Work {
            schema: Some(r#"{"type": "integer"}"#.to_owned()),
            ..work("Count: {{value}}", "\"letters\"")
        };
        assert_eq!(host.run(run(with_schema)), Ok("9".to_owned()));
    }

    #[test]
    fn a_field_that_is_missing_costs_nothing() {
        let host = Host::new();
        let failed = host.run(run(work("Classify: {{title}}", r#"{"subject": "x"}"#)));
        assert_eq!(
            failed,
            Err(Failure::failed(
                "the task: no value for `{{title}}`; there are `subject`"
            ))
        );
        assert!(host.requests().is_empty());
    }
}
