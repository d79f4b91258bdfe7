//! Sums a text up in a few points: one model call, and plain code that keeps to what was asked for.

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
        .model("fast") // what that is, the operator decides
        .max_tokens(500)
        .json() // sends the JSON Schema of Summary, gives a Summary
        .await?;
    summary.points = tidy(&summary.points, at_most as usize);
    Ok(summary)
}

/// The first points, without empty ones and repetitions: a model may give more than it was asked for.
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

    #[test]
    fn points_are_few_and_said_once() {
        let points = ["one", " one ", "", "two", "three"].map(str::to_owned);
        assert_eq!(tidy(&points, 2), ["one", "two"]);
    }
}
