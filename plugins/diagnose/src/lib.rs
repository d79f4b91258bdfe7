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
                json!({"cause": "too long", "right-problem": true, "better": null}),
            )],
        );
        let found = host.run(run(setback())).unwrap();
        assert_eq!(
            (found.cause.as_str(), found.right_problem, found.better),
            ("too long", true, None)
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
