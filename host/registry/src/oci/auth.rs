//! Finds the credentials for one registry, in the environment or in docker's configuration.
//!
//! The environment takes precedence. `AGENTHOST_REGISTRY` names the only host that receives the other variables:
//! `AGENTHOST_REGISTRY_USERNAME` and `AGENTHOST_REGISTRY_PASSWORD`, or `AGENTHOST_REGISTRY_TOKEN`, which is sent
//! unchanged as a bearer token. Setting one of those without `AGENTHOST_REGISTRY` is an error, so that a forgotten host
//! is not mistaken for missing rights.
//!
//! Next is `config.json` in `DOCKER_CONFIG` or `~/.docker`, as `docker login` leaves it: a helper for this host, the
//! helper for all hosts, or an entry in the file. This module never writes to it. No error and no debug output contains
//! a secret.

pub use super::credentials::{Credentials, PASSWORD, REGISTRY, TOKEN, USERNAME};
use super::credentials::{Secret, sensitive};
use super::docker;
use crate::error::CredentialsError;
use agenthost_config::Env;

impl Credentials {
    /// Finds the credentials for `host`, such as `registry.example` or `127.0.0.1:5000`. May run one of docker's
    /// credential helpers, for at most 10 s.
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
    /// assert!(error.to_string().ends_with("AGENTHOST_REGISTRY does not say for which registry"), "{error}");
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
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if the variables or docker's configuration are invalid, or
    /// if a helper fails.
    pub async fn find(env: &Env, host: &str) -> Result<Self, CredentialsError> {
        if let Some(found) = from_variables(env, host)? {
            return Ok(found);
        }
        docker::find(env, host).await
    }
}

fn from_variables(env: &Env, host: &str) -> Result<Option<Credentials>, CredentialsError> {
    let (user, password, token) = (env.var(USERNAME), env.var(PASSWORD), env.var(TOKEN));
    let Some(registry) = env.var(REGISTRY) else {
        return match [(USERNAME, user), (PASSWORD, password), (TOKEN, token)]
            .into_iter()
            .find(|(_, value)| value.is_some())
        {
            None => Ok(None),
            Some((variable, _)) => Err(CredentialsError::NoRegistry {
                variable,
                host: host.to_owned(),
            }),
        };
    };
    if !registry.eq_ignore_ascii_case(host) {
        return Ok(None);
    }
    let secret = match (user, password, token) {
        (None, None, None) => return Ok(None),
        (None, None, Some(token)) => {
            if sensitive(token).is_none() {
                return Err(CredentialsError::Token);
            }
            Secret::Token(token.to_owned().into())
        }
        (Some(user), Some(password), None) => Secret::Password {
            user: user.to_owned(),
            password: password.to_owned().into(),
        },
        (_, _, Some(_)) => return Err(CredentialsError::TokenAndPassword),
        _ => return Err(CredentialsError::HalfPassword),
    };
    Ok(Some(Credentials::new(secret, "the environment")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_core::error::{Classify as _, ErrorClass};

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
            let text = format!("{error:?} {error}");
            assert!(
                text.contains("AGENTHOST_REGISTRY") && !text.contains("s3cret"),
                "{text}"
            );
        }
    }
}
