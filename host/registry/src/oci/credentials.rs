//! The credentials for one registry. No debug output contains a secret.

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

/// The variable with the host that the variables below are for.
pub const REGISTRY: &str = "AGENTHOST_REGISTRY";
/// The variable with the user name.
pub const USERNAME: &str = "AGENTHOST_REGISTRY_USERNAME";
/// The variable with the user's password.
pub const PASSWORD: &str = "AGENTHOST_REGISTRY_PASSWORD";
/// The variable with a bearer token, which replaces user name and password.
pub const TOKEN: &str = "AGENTHOST_REGISTRY_TOKEN";

/// A secret to log in with.
#[derive(Debug, Clone)]
pub(super) enum Secret {
    /// A user name and a password.
    Password { user: String, password: SecretString },
    /// An identity token, which a token server accepts in place of a password.
    Identity(SecretString),
    /// A bearer token, which the registry itself accepts.
    Token(SecretString),
}

/// The credentials for one registry, sent only if it requires a login.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    known: Option<(Secret, String)>,
}

impl Credentials {
    /// Returns no credentials, for public content.
    ///
    /// ```
    /// use agenthost_registry::Source as _;
    /// use agenthost_registry::oci::{Credentials, Oci};
    ///
    /// let oci = Oci::new("registry.example", "plugins/acme/competitor", Credentials::anonymous())?;
    /// assert_eq!(oci.place(), "registry.example/plugins/acme/competitor");
    /// # Ok::<(), agenthost_core::error::Error>(())
    /// ```
    pub fn anonymous() -> Self {
        Self::default()
    }

    pub(super) fn new(secret: Secret, source: impl Into<String>) -> Self {
        Self {
            known: Some((secret, source.into())),
        }
    }

    pub(super) fn secret(&self) -> Option<&Secret> {
        self.known.as_ref().map(|(secret, _)| secret)
    }

    /// Returns a description of where the credentials come from.
    pub(super) fn source(&self) -> Option<&str> {
        self.known.as_ref().map(|(_, source)| source.as_str())
    }

    /// Returns the header with a token that the registry itself accepts.
    pub(super) fn token(&self) -> Option<HeaderValue> {
        match self.secret()? {
            Secret::Token(token) => sensitive(&format!("Bearer {}", token.expose_secret())),
            _ => None,
        }
    }
}

/// Returns a header value that nothing prints.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
