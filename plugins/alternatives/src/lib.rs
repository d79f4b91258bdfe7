//! Finds three other ways to do a failed job. One call of the fast model.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const SCOUT: &str = "You know many ways to build a thing, and what each of them costs.";

/// The model's answer.
#[derive(Deserialize, JsonSchema)]
struct Found {
    /// Three approaches that differ in kind, the most promising first.
    approaches: Vec<Approach>,
}

async fn run(setback: Setback) -> Result<Vec<Approach>, Failure> {
    let found: Found = Prompt::new(
        "Writing this program failed. Find three approaches that meet the same requirements in another way, and name \
         only those files that each of them needs.",
    )
    .data("language", &setback.language)
    .data("requirements", &setback.requirements)
    .data("files", setback.files.join("\n"))
    .data("failure", setback.failure.to_string())
    .system(SCOUT)
    .max_tokens(3000)
    .json()
    .await?;
    Ok(found.approaches)
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
        let host = Host::new().model("fast", [Reply::json(json!({"approaches": [{"name": "table", "plan": {"requirements": "Print a line.", "files": []}, "trade-off": "slow"}]}))]);
        let found = host.run(run(setback())).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].trade_off.as_str()), ("table", "slow"));
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
