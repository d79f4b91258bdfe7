//! Answers a question from one point of view, with one model call.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(); // reads wit/: brings Matter, Opinion and Failure, and exports `run`

async fn run(matter: Matter) -> Result<Opinion, Failure> {
    let opinion: Opinion = Prompt::new("Answer the question from your point of view.")
        .system("You answer as the person whose role is given, in two or three sentences.")
        .data("role", &matter.role) // marked as data, never as an instruction
        .data("question", &matter.text)
        .max_tokens(400)
        .json() // sends the JSON Schema of Opinion, returns an Opinion
        .await?;
    Ok(Opinion {
        role: matter.role,
        confidence: bounded(opinion.confidence),
        ..opinion
    })
}

/// Clamps a confidence to 0 to 1: the model may ignore bounds that only a comment states.
fn bounded(confidence: f32) -> f32 {
    if confidence.is_nan() {
        return 0.0;
    }
    confidence.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    #[test]
    fn the_role_is_that_of_the_matter() {
        let reply = json!({"role": "an expert", "text": "To the window.", "confidence": 1.5});
        let host = Host::new().model("fast", [Reply::json(reply)]); // the model's reply
        let matter = Matter {
            text: "Where does the table go?".to_owned(),
            role: "a nurse".to_owned(),
        };
        let opinion = host.run(run(matter)).unwrap();
        assert_eq!(opinion.role, "a nurse");
        assert_eq!(opinion.confidence, 1.0);
        let asked = host.requests()[0].text();
        assert!(asked.contains("<role>\na nurse\n</role>"));
    }

    #[test]
    fn confidence_has_bounds() {
        assert_eq!([7.0, 0.5, f32::NAN].map(bounded), [1.0, 0.5, 0.0]);
    }
}
