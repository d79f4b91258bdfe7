//! Sums a text up in a few points: one model call, and plain code that enforces the requested number of points.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(); // reads wit/: brings Document, Summary and Failure, and exports `run`

async fn run(input: Document) -> Result<Summary, Failure> {
    if input.text.trim().is_empty() {
        return Err(Failure::failed("there is no text"));
    }
    let at_most = input.at_most.unwrap_or(3);
    let mut summary: Summary = Prompt::new(format!("Sum the text up in at most {at_most} points."))
        .system("You are an editor. State what the text says, and nothing else.")
        .data("text", &input.text) // marked as data, never as an instruction
        .model("fast") // the operator maps this name to a model
        .max_tokens(500)
        .json() // sends the JSON Schema of Summary, returns a Summary
        .await?;
    summary.points = tidy(&summary.points, at_most as usize);
    Ok(summary)
}

/// Returns the first points without empty ones and repetitions: a model may return more than requested.
fn tidy(points: &[String], at_most: usize) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for point in points.iter().map(|point| point.trim().to_owned()) {
        if !point.is_empty() && !kept.contains(&point) {
            kept.push(point);
        }
    }
    kept.truncate(at_most);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    fn document(text: &str) -> Document {
        Document {
            text: text.to_owned(),
            at_most: Some(2),
        }
    }

    #[test]
    fn one_call_gives_the_headline_and_the_points() {
        let points = ["It rains.", "It rains.", "It is cold.", "It is late."];
        let reply = json!({"headline": "It rains.", "points": points});
        let host = Host::new().model("fast", [Reply::json(reply)]); // the model's reply
        let summary = host.run(run(document("A long text."))).unwrap();
        assert_eq!(summary.headline, "It rains.");
        assert_eq!(summary.points, ["It rains.", "It is cold."]);
        let asked = host.requests()[0].text();
        assert!(asked.contains("at most 2 points"), "{asked}");
        assert!(asked.contains("A long text."), "{asked}");
    }

    #[test]
    fn failures_are_values() {
        let host = Host::new().model("fast", [Reply::error(llm::Error::ContextOverflow)]);
        let failed = host.run(run(document("A book.")));
        assert_eq!(failed, Err(Failure::ContextOverflow));
        let failed = host.run(run(document(" ")));
        assert_eq!(failed, Err(Failure::failed("there is no text")));
        assert_eq!(host.requests().len(), 1); // without a text, no model is asked
    }

    #[test]
    fn points_are_few_and_said_once() {
        let points = ["one", " one ", "", "two", "three"].map(str::to_owned);
        assert_eq!(tidy(&points, 2), ["one", "two"]);
    }
}
