//! Labels a list of messages with one model call, which costs less than a call for each.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(); // reads wit/: brings Message, Label, Intent and Failure, and exports `run`

/// The model's answer; its comments are part of the JSON Schema.
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
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    #[test]
    fn one_call_labels_all_messages() {
        let plan = json!({"gist": "A plan", "intent": "question"});
        let fault = json!({"gist": "A fault", "intent": "complaint"});
        let labels = json!({"labels": [plan, fault]});
        let host = Host::new().model("fast", [Reply::json(labels)]); // the model's reply
        let messages = ["Is there a plan?", "It is broken."].map(|text| Message {
            sender: "Ada".to_owned(),
            text: text.to_owned(),
        });
        let labels = host.run(run(messages.to_vec())).unwrap();
        let label = labels[1].as_ref().unwrap();
        assert_eq!(label.intent, Intent::Complaint);
        let request = &host.requests()[0];
        assert!(request.text().contains("Is there a plan?"));
        assert!(request.text().contains("It is broken."));
        assert_eq!(request.max_tokens, Some(360));
    }

    #[test]
    fn without_messages_no_model_is_asked() {
        assert_eq!(Host::new().run(run(vec![])), Ok(vec![]));
    }

    #[test]
    fn a_label_goes_to_its_message_or_to_none() {
        assert_eq!(place(2, vec!["a", "b"]), [Ok("a"), Ok("b")]);
        let none = Err("2 messages got 3 labels".to_owned());
        assert_eq!(place(2, vec!["a", "b", "c"]), [none.clone(), none]);
    }
}
