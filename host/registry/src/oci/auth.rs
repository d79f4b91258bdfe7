//! Who is asking: credentials for one registry, from the environment or from docker's configuration.
//!
//! The environment comes first. `AGENTHOST_REGISTRY` names the one host that it is meant for, with
//! `AGENTHOST_REGISTRY_USERNAME` and `AGENTHOST_REGISTRY_PASSWORD`, or with `AGENTHOST_REGISTRY_TOKEN`, which is sent as it is
//! as a bearer token. No other host gets any of it, and without `AGENTHOST_REGISTRY` nobody does: that is an error, so that a
//! forgotten name is not taken for a missing right.
//!
//! Then `config.json` in `DOCKER_CONFIG` or `~/.docker`, as `docker login` leaves it: a helper for this host, the helper for
//! all, or what stands in the file. Nothing is ever written there. A secret stands in no error and in no debug output.

use secrecy::{ExposeSecret as _, SecretString};

use super::docker;
use super::login::sensitive;
use agenthost_config::Env;
use agenthost_core::error::{Error, Result};

/// Names the host that the variables below are for.
pub const REGISTRY: &str = "AGENTHOST_REGISTRY";
/// The name to log in with.
pub const USERNAME: &str = "AGENTHOST_REGISTRY_USERNAME";
/// The password that belongs to it.
pub const PASSWORD: &str = "AGENTHOST_REGISTRY_PASSWORD";
/// A bearer token, in place of both.
pub const TOKEN: &str = "AGENTHOST_REGISTRY_TOKEN";

/// What is known.
#[derive(Debug, Clone)]
pub(super) enum Secret {
    /// A name and a password.
    Password { user: String, password: SecretString },
    /// What a token server takes in place of them.
    Identity(SecretString),
    /// What the registry itself takes.
    Token(SecretString),
}

/// What to log in with at one registry, if it asks.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    known: Option<(Secret, String)>,
}

impl Credentials {
    /// None: what anybody may read.
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

    /// Those for `host`, such as `registry.example` or `127.0.0.1:5000`. May run one of docker's credential helpers, for 10 s
    /// at most.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::collections::BTreeMap;
    /// use agenthost_config::Env;
    /// use agenthost_registry::oci::auth::{Credentials, REGISTRY, TOKEN};
    ///
    /// let mut vars = BTreeMap::from([(TOKEN.to_owned(), "s3cret".to_owned())]);
    /// let env = Env::new(vars.clone(), "/", None);
    /// let error = Credentials::find(&env, "registry.example").await.err().ok_or("whose is it?")?;
    /// assert!(error.message().ends_with("AGENTHOST_REGISTRY does not say for which registry"), "{error}");
    ///
    /// vars.insert(REGISTRY.to_owned(), "registry.example".to_owned());
    /// let env = Env::new(vars, "/", None);
    /// let own = format!("{:?}", Credentials::find(&env, "registry.example").await?);
    /// assert!(own.contains("the environment") && !own.contains("s3cret"), "{own}");
    /// let other = Credentials::find(&env, "elsewhere.example").await?;
    /// assert_eq!(format!("{other:?}"), format!("{:?}", Credentials::anonymous()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) where the variables or docker's configuration make no sense, and for a
    /// helper that fails.
    pub async fn find(env: &Env, host: &str) -> Result<Self> {
        if let Some(found) = from_variables(env, host)? {
            return Ok(found);
        }
        docker::find(env, host).await
    }

    pub(super) fn secret(&self) -> Option<&Secret> {
        self.known.as_ref().map(|(secret, _)| secret)
    }

    /// Where they come from, for people.
    pub(super) fn source(&self) -> Option<&str> {
        self.known.as_ref().map(|(_, source)| source.as_str())
    }

    /// The header of a token that the registry takes as it is.
    pub(super) fn token(&self) -> Option<reqwest::header::HeaderValue> {
        match self.secret()? {
            Secret::Token(token) => sensitive(&format!("Bearer {}", token.expose_secret())),
            _ => None,
        }
    }
}

fn from_variables(env: &Env, host: &str) -> Result<Option<Credentials>> {
    let (user, password, token) = (env.var(USERNAME), env.var(PASSWORD), env.var(TOKEN));
    let Some(registry) = env.var(REGISTRY) else {
        return match [(USERNAME, user), (PASSWORD, password), (TOKEN, token)]
            .into_iter()
            .find(|(_, value)| value.is_some())
        {
            None => Ok(None),
            Some((name, _)) => Err(Error::config(format!(
                "{name} is set, and {REGISTRY} does not say for which registry"
            ))
            .with_hint(format!(
                "Set {REGISTRY} to the host that may have it, such as {REGISTRY}={host}."
            ))),
        };
    };
    if !registry.eq_ignore_ascii_case(host) {
        return Ok(None);
    }
    let secret = match (user, password, token) {
        (None, None, None) => return Ok(None),
        (None, None, Some(token)) => {
            if sensitive(token).is_none() {
                return Err(
                    Error::config(format!("{TOKEN} has characters that no header can carry"))
                        .with_hint("A line break at its end is a usual cause."),
                );
            }
            Secret::Token(token.to_owned().into())
        }
        (Some(user), Some(password), None) => Secret::Password {
            user: user.to_owned(),
            password: password.to_owned().into(),
        },
        (_, _, Some(_)) => {
            return Err(Error::config(format!("{TOKEN} is set, and a name or password, too"))
                .with_hint(format!("Set {USERNAME} and {PASSWORD}, or {TOKEN}.")));
        }
        _ => {
            return Err(
                Error::config(format!("of {USERNAME} and {PASSWORD}, one is set and the other is not"))
                    .with_hint("Set both."),
            );
        }
    };
    Ok(Some(Credentials::new(secret, "the environment")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_core::error::ErrorClass;

    pub(super) fn env(vars: &[(&str, &str)]) -> Env {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Env::new(vars.collect(), "/", None)
    }

    #[test]
    fn the_environment_is_for_the_host_that_it_names() {
        let vars = [
            (REGISTRY, "Registry.example"),
            (USERNAME, "ada"),
            (PASSWORD, "open-sesame"),
        ];
        let found = from_variables(&env(&vars), "registry.example").unwrap().unwrap();
        let debug = format!("{found:?}");
        assert!(debug.contains("ada") && !debug.contains("open-sesame"), "{debug}");
        for other in ["registry.example:5000", "example", "registry.example.org"] {
            assert!(from_variables(&env(&vars), other).unwrap().is_none(), "{other}");
        }
        let token = [(REGISTRY, "registry.example"), (TOKEN, "t0ken")];
        let found = from_variables(&env(&token), "registry.example").unwrap().unwrap();
        assert_eq!(found.token().unwrap(), "Bearer t0ken");
        assert!(found.token().unwrap().is_sensitive());
        assert!(!format!("{found:?}").contains("t0ken"));
    }

    #[test]
    fn variables_that_make_no_sense_are_refused_without_their_values() {
        for vars in [
            &[(TOKEN, "s3cret")][..],
            &[(USERNAME, "ada"), (PASSWORD, "s3cret")],
            &[(REGISTRY, "r.example"), (PASSWORD, "s3cret")],
            &[(REGISTRY, "r.example"), (USERNAME, "s3cret")],
            &[(REGISTRY, "r.example"), (TOKEN, "s3cret"), (USERNAME, "ada")],
            &[(REGISTRY, "r.example"), (TOKEN, "s3cret\n")],
        ] {
            let error = from_variables(&env(vars), "r.example").unwrap_err();
            assert_eq!(error.class(), ErrorClass::Config);
            let text = format!("{error:?}");
            assert!(
                text.contains("AGENTHOST_REGISTRY") && !text.contains("s3cret"),
                "{text}"
            );
        }
    }
}
