//! Finds a title for a text, with one model call. The interface is written in Rust, without a WIT file.

/// Finds a title for a text.
#[agenthost_sdk::task(package = "demo:title@0.1.0")]
mod title {
    use agenthost_sdk::prelude::*;

    /// A text without a title.
    struct Text {
        /// The whole of it, or its beginning.
        body: String,
        /// Without one, what fits the text.
        tone: Option<Tone>,
    }

    /// How a title speaks.
    enum Tone {
        /// It says what the text is about.
        Sober,
        /// It makes people curious.
        Playful,
    }

    /// What the text may be called.
    #[derive(Deserialize, JsonSchema)]
    struct Titles {
        /// At most eight words.
        best: String,
        /// Three more, each unlike the others.
        others: Vec<String>,
    }

    async fn run(text: Text) -> Result<Titles, Failure> {
        let tone = match text.tone {
            Some(Tone::Sober) => "It says what the text is about.",
            Some(Tone::Playful) => "It makes people curious.",
            None => "Its tone is the text's.",
        };
        let prompt = Prompt::new(format!("Find a title for the text. {tone}")).data("text", &text.body);
        Ok(prompt.max_tokens(300).json().await?)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use agenthost_sdk::serde_json::json;
        use agenthost_sdk::testing::{Host, Reply};

        #[test]
        fn the_tone_reaches_the_model() {
            let reply = json!({"best": "A short story", "others": ["One", "Two", "Three"]});
            let host = Host::new().model_with("fast", move |_| Reply::json(&reply));
            let tones = [
                (None, "Its tone is the text's."),
                (Some(Tone::Playful), "It makes people curious."),
            ];
            for (tone, told) in tones {
                let body = "Once upon a time.".to_owned();
                let titles = host.run(run(Text { body, tone })).unwrap();
                assert_eq!((titles.best.as_str(), titles.others.len()), ("A short story", 3));
                let asked = host.requests().pop().unwrap().text();
                assert!(asked.contains(told) && asked.contains("Once upon a time."), "{asked}");
            }
        }
    }
}
