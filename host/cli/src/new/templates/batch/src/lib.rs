//! Labels a list of messages with one model call, which costs less than a call for each.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(); // reads wit/: brings Message, Label, Intent and Failure, and exports `run`

/// What the model is asked for; the comments reach it with the JSON Schema.
#[derive(Deserialize, JsonSchema)]
struct Labels {
    /// Exactly one label per message, in the order of the messages.
    labels: Vec<Label>,
}

async fn run(messages: Vec<Message>) -> Result<Vec<Result<Label, String>>, Failure> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let mut prompt = Prompt::new("Give each of these messages a label.");
    for message in &messages {
        let text = format!("From: {}\n\n{}", message.sender, message.text);
        prompt = prompt.data("message", text); // marked as data, never as an instruction
    }
    let room = 200 + 80 * messages.len() as u32;
    let Labels { labels } = prompt.max_tokens(room).json().await?;
    Ok(place(messages.len(), labels))
}

/// Returns a result for each message. With too many or too few labels, it is not known which label belongs to which
/// message.
fn place<T: Clone>(messages: usize, labels: Vec<T>) -> Vec<Result<T, String>> {
    if labels.len() == messages {
        return labels.into_iter().map(Ok).collect();
    }
    let why = format!("{messages} messages got {} labels", labels.len());
    vec![Err(why); messages]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_goes_to_its_message_or_to_none() {
        assert_eq!(place(2, vec!["a", "b"]), [Ok("a"), Ok("b")]);
        let none = Err("2 messages got 3 labels".to_owned());
        assert_eq!(place(2, vec!["a", "b", "c"]), [none.clone(), none]);
    }
}
