//! Answers a question from one point of view, with one model call.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(); // reads wit/: brings Matter, Opinion and Failure, and exports `run`

async fn run(matter: Matter) -> Result<Opinion, Failure> {
    let opinion: Opinion = Prompt::new("Answer the question from your point of view.")
        .system("You answer as the person whose role is given, in two or three sentences.")
        .data("role", &matter.role) // marked as data, never as an instruction
        .data("question", &matter.text)
        .max_tokens(400)
        .json() // sends the JSON Schema of Opinion, gives an Opinion
        .await?;
    Ok(held(opinion, matter.role))
}

/// The opinion under the role that was asked for, its confidence within bounds: a model may break both.
fn held(opinion: Opinion, role: String) -> Opinion {
    Opinion { role, confidence: opinion.confidence.clamp(0.0, 1.0), ..opinion }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opinion_is_held_to_what_was_asked() {
        let said = Opinion { role: "a king".into(), text: "Yes.".into(), confidence: 7.0 };
        let held = held(said, "a nurse".into());
        assert_eq!((held.role.as_str(), held.confidence), ("a nurse", 1.0));
    }
}
