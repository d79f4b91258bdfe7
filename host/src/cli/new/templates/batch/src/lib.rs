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
        prompt = prompt.data("message", format!("From: {}\n\n{}", message.sender, message.text));
    }
    let room = 200 + 80 * messages.len() as u32;
    let Labels { labels } = prompt.max_tokens(room).json().await?;
    Ok(place(messages.len(), labels))
}

/// A result for each message. With a label too many or too few nobody knows which belongs to which.
fn place(messages: usize, labels: Vec<Label>) -> Vec<Result<Label, String>> {
    if labels.len() == messages {
        return labels.into_iter().map(Ok).collect();
    }
    vec![Err(format!("{} labels for {messages} messages", labels.len())); messages]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_goes_to_its_message_or_to_none() {
        let label = |gist: &str| Label { gist: gist.into(), intent: Intent::Other };
        let (a, b) = (label("a"), label("b"));
        assert_eq!(place(2, vec![a.clone(), b.clone()]), [Ok(a.clone()), Ok(b)]);
        assert_eq!(place(2, vec![a]), vec![Err("1 labels for 2 messages".to_owned()); 2]);
    }
}
