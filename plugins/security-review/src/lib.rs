//! Looks in a draft for content that must not be published: secrets, personal data, harmful advice. One call of the
//! fast model.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const CHECKER: &str = "You review texts before they are published. Report only secrets, people's data, internal \
                       details, and advice that harms whoever follows it; all else is not your business. That nothing \
                       is wrong is a good answer.";

/// The model's answer.
#[derive(Deserialize, JsonSchema)]
struct Found {
    /// The issues, the gravest first; empty if there are none.
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

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    fn draft() -> Document {
        let brief = draft::Brief {
            subject: "The new office".to_owned(),
            audience: "customers".to_owned(),
            facts: vec!["It opens in May.".to_owned()],
            voice: "plain".to_owned(),
        };
        Document {
            brief,
            title: "Moving".to_owned(),
            text: "We move in June.".to_owned(),
        }
    }

    #[test]
    fn the_issues_come_from_the_model() {
        let issue = json!({"fault": "sensitive-data", "passage": "June", "problem": "It is not.", "remedy": "Cut it."});
        let replies = [
            Reply::json(json!({"issues": [issue]})),
            Reply::json(json!({"issues": []})),
        ];
        let host = Host::new().model("fast", replies);
        let issues = host.run(run(draft())).unwrap();
        assert_eq!((issues.len(), issues[0].passage.as_str()), (1, "June"));
        assert_eq!(host.run(run(draft())), Ok(vec![]));
        let asked = host.requests()[0].text();
        assert!(
            asked.contains("We move in June.") && asked.contains("<audience>\ncustomers\n</audience>"),
            "{asked}"
        );
    }

    #[test]
    fn a_check_that_fails_is_no_pass() {
        let host = Host::new().model("fast", [Reply::error(llm::Error::Exhausted(Limit::Calls))]);
        assert_eq!(host.run(run(draft())), Err(Failure::Exhausted(Limit::Calls)));
    }
}
