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

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    fn setback() -> Setback {
        Setback {
            language: "Rust".to_owned(),
            requirements: "Print a poem.".to_owned(),
            files: vec!["src/lib.rs (9 bytes)".to_owned()],
            failure: Failure::ContextOverflow,
        }
    }

    #[test]
    fn the_model_is_told_why_the_job_failed() {
        let host = Host::new().model(
            "fast",
            [Reply::json(
                json!({"plan": {"requirements": "Print a line.", "files": []}, "left-out": ["rhymes"]}),
            )],
        );
        let found = host.run(run(setback())).unwrap();
        assert_eq!(
            (found.plan.requirements.as_str(), found.left_out.len()),
            ("Print a line.", 1)
        );
        let asked = host.requests()[0].text();
        assert!(
            asked.contains("src/lib.rs (9 bytes)") && asked.contains("does not fit the model's context"),
            "{asked}"
        );
    }

    #[test]
    fn a_reply_of_another_form_is_a_failure_of_the_model() {
        let host = Host::new().model("fast", [Reply::text("I would begin again.")]);
        assert!(matches!(host.run(run(setback())), Err(Failure::Model(_))));
    }
}
