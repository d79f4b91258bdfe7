//! The values of headers and query parameters that are added to every request.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The value of a header or query parameter that is added to every request.
///
/// ```
/// use agenthost_providers::ExtraValue;
/// use agenthost_providers::openai::{MaxTokensField, OpenAi};
///
/// // A deployment of Azure OpenAI.
/// let provider = OpenAi::new(Some("https://corp.openai.azure.com/openai/deployments/small"), None, MaxTokensField::default())?
///     .with_query("api-version", "2024-10-21")?
///     .with_header("api-key", ExtraValue::secret("0123456789abcdef"))?;
/// assert!(!format!("{provider:?}").contains("0123456789abcdef"));
/// assert!(provider.with_header("content-length", "5").is_err());
/// # Ok::<(), agenthost_providers::ProviderSetupError>(())
/// ```
#[derive(Clone)]
pub struct ExtraValue(Text);

#[derive(Clone)]
enum Text {
    Plain(String),
    Secret(SecretString),
}

impl ExtraValue {
    /// Creates a value that is never shown. If it has at least 8 bytes, it is also removed from the texts that the server
    /// returns, if the server repeats it as it is.
    pub fn secret(value: impl Into<String>) -> Self {
        Self(Text::Secret(SecretString::from(value.into())))
    }

    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.0, Text::Secret(_))
    }

    /// Returns the value, to send it.
    pub(crate) fn expose(&self) -> &str {
        match &self.0 {
            Text::Plain(text) => text,
            Text::Secret(secret) => secret.expose_secret(),
        }
    }
}

impl From<&str> for ExtraValue {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}

impl From<String> for ExtraValue {
    fn from(value: String) -> Self {
        Self(Text::Plain(value))
    }
}

/// Hides a secret.
impl fmt::Debug for ExtraValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Text::Plain(text) => text.fmt(f),
            Text::Secret(_) => f.write_str("[secret]"),
        }
    }
}
