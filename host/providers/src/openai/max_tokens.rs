//! The name of the field for the maximum number of output tokens.

/// The name of the field for the maximum number of output tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MaxTokensField {
    /// `max_completion_tokens`, which OpenAI's reasoning models require; vLLM and OpenRouter accept it too.
    #[default]
    MaxCompletionTokens,
    /// `max_tokens`, the old name. Ollama reads only this one and silently ignores the other (its pull request 14464 to
    /// read both was open in 2026), so that with the default a reply from Ollama would be unbounded.
    MaxTokens,
}
