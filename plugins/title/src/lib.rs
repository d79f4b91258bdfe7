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
}
