//! Reads a provider's key, and the values of its headers and query parameters, at the moment of use, and never shows
//! what comes from a file or a variable.
//!
//! This module keeps no key, and no error repeats one, not even an invalid one. A key file that others may read is
//! refused, as with private keys elsewhere.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::SecretString;

use crate::config::Config;
use crate::error::KeyError;
use crate::settings::{FieldSource, KeySource, ProviderConfig, RequestField, SetBy};
use crate::trust;
use agenthost_core::plain_file::{self, Links};
use agenthost_core::request_field::FieldPlace;

/// The maximum size of a key file. No vendor's key is as long, so a larger file is not a key file.
const MAX_KEY_BYTES: u64 = 8 << 10;

impl Config {
    /// Returns the key of `provider`; `None` for a service without keys. If the address is not the vendor's own, the
    /// vendor's usual variable may be unset, because many local servers need no key.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if prompts or the key would be sent to an address that
    /// needs [`trust`] first, or if the key file can be read by others;
    /// [`Config`](agenthost_core::error::ErrorClass::Config) for an unknown provider, and for a key that is missing,
    /// empty or malformed.
    #[doc(hidden)]
    pub fn key(&self, provider: &str) -> Result<Option<SecretString>, KeyError> {
        let Some(config) = self.provider(provider) else {
            return Err(KeyError::UnknownProvider {
                provider: provider.to_owned(),
            });
        };
        trust::check_provider(self, provider)?;
        let Some(source) = &config.key else {
            return Ok(None);
        };
        match source {
            KeySource::File(path) => checked(&read(path)?, source).map(Some),
            KeySource::Variable(name) => match self.env.raw_var(name) {
                Some(text) => checked(text, source).map(Some),
                None if config.key_assumed && !at_vendor(config) => Ok(None),
                None => Err(KeyError::Unset {
                    provider: provider.to_owned(),
                    section: self.provider_section(provider, "key-env"),
                    variable: name.clone(),
                }),
            },
        }
    }
}

/// A header or query parameter with its value, as it is sent.
#[doc(hidden)]
#[derive(Debug)]
pub struct ReadField {
    /// The part of the request that it belongs to.
    pub place: FieldPlace,
    /// The name.
    pub name: String,
    /// The value.
    pub value: SecretString,
    /// `true` if the value comes from a variable and must not be shown.
    pub is_secret: bool,
}

impl Config {
    /// Returns the headers and query parameters of every request to `provider`.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) as for [`Config::key`];
    /// [`Config`](agenthost_core::error::ErrorClass::Config) for an unknown provider, and for a variable that is not
    /// set or has a value that cannot be sent.
    #[doc(hidden)]
    pub fn fields(&self, provider: &str) -> Result<Vec<ReadField>, KeyError> {
        let Some(config) = self.provider(provider) else {
            return Err(KeyError::UnknownProvider {
                provider: provider.to_owned(),
            });
        };
        trust::check_provider(self, provider)?;
        config
            .fields
            .iter()
            .map(|field| self.read_field(provider, field))
            .collect()
    }

    fn read_field(&self, provider: &str, field: &RequestField) -> Result<ReadField, KeyError> {
        let read = |value: &str, is_secret| ReadField {
            place: field.place,
            name: field.name.clone(),
            value: SecretString::from(value),
            is_secret,
        };
        let variable = match &field.value {
            FieldSource::Text(text) => return Ok(read(text, false)),
            FieldSource::Variable(variable) => variable,
        };
        let Some(text) = self.env.raw_var(variable) else {
            return Err(KeyError::FieldUnset {
                provider: provider.to_owned(),
                section: format!("[providers.{provider}] ({})", self.shown_at_home(&field.origin)),
                field: format!("{} `{}`", field.place.name(), field.name),
                variable: variable.clone(),
            });
        };
        let text = line(text);
        field.place.check_value(text).map_err(|problem| KeyError::Field {
            field: format!("{} `{}`", field.place.name(), field.name),
            variable: variable.clone(),
            problem,
        })?;
        Ok(read(text, true))
    }
}

/// Returns `text` without a line break at its end.
fn line(text: &str) -> &str {
    text.strip_suffix('\n')
        .map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}

fn at_vendor(provider: &ProviderConfig) -> bool {
    provider
        .address
        .as_ref()
        .is_some_and(|address| address.set_by == SetBy::Vendor)
}

fn read(path: &Path) -> Result<String, KeyError> {
    let failed = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    let file = plain_file::open(path, Links::Follow).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::OpenToOthers {
            path: path.to_owned(),
            mode: mode & 0o777,
        });
    }
    let mut text = String::new();
    file.take(MAX_KEY_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_KEY_BYTES {
        return Err(KeyError::TooLarge {
            path: path.to_owned(),
            limit: MAX_KEY_BYTES,
        });
    }
    Ok(text)
}

fn checked(text: &str, source: &KeySource) -> Result<SecretString, KeyError> {
    let key = line(text);
    if key.is_empty() {
        return Err(KeyError::Empty { place: source.clone() });
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyError::Malformed { place: source.clone() });
    }
    Ok(SecretString::from(key))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret;

    use super::super::scratch::Scratch;
    use super::*;
    use agenthost_core::error::{Classify as _, ErrorClass};

    fn key(scratch: &Scratch, provider: &str) -> Result<Option<String>, String> {
        let key = scratch.load().key(provider).map_err(|error| scratch.shown(&error))?;
        Ok(key.map(|key| key.expose_secret().to_owned()))
    }

    fn from_file() -> Scratch {
        Scratch::new().user("[providers.openai]\nkey-file = \"k\"")
    }

    const PATH: &str = "home/.config/agenthost/k";

    #[test]
    fn a_key_comes_from_the_environment() {
        let scratch = Scratch::new()
            .user("[providers.openai]\nkey-env = \"MINE\"")
            .var("ANTHROPIC_API_KEY", "sk-a")
            .var("MINE", "sk-b\n");
        assert_eq!(key(&scratch, "anthropic"), Ok(Some("sk-a".to_owned())));
        assert_eq!(key(&scratch, "openai"), Ok(Some("sk-b".to_owned())));
        assert_eq!(key(&scratch, "offline"), Ok(None));
        assert_eq!(key(&scratch, "none"), Err("unknown provider `none`".to_owned()));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let missing = "no key for provider `anthropic`: the environment variable ANTHROPIC_API_KEY is not set\n\
                       Set ANTHROPIC_API_KEY, or name another place with key-env or key-file in [providers.anthropic].";
        assert_eq!(key(&Scratch::new(), "anthropic"), Err(missing.to_owned()));
        let local = Scratch::project("[providers.openai]\nbase-url = \"http://localhost:11434/v1\"");
        assert_eq!(key(&local, "openai"), Ok(None), "a local server may want no key");
        let named =
            Scratch::new().user("[providers.openai]\nbase-url = \"http://localhost:11434/v1\"\nkey-env = \"MINE\"");
        assert!(
            key(&named, "openai")
                .unwrap_err()
                .starts_with("no key for provider `openai`: the environment variable MINE")
        );
    }

    #[test]
    fn a_broken_key_is_not_repeated() {
        for value in ["sk secret", "sk\nsecret", "secret\n\n", "sk-\u{7}secret", "sécret"] {
            let scratch = Scratch::new().var("OPENAI_API_KEY", value);
            assert_eq!(
                key(&scratch, "openai"),
                Err(
                    "the environment variable OPENAI_API_KEY does not hold a valid key: there is a blank, a line break \
                     or another character that no key has\nPut the key there, alone on one line."
                        .to_owned()
                )
            );
        }
        for value in ["", "\n", "\r\n"] {
            let scratch = Scratch::new().var("OPENAI_API_KEY", value);
            assert_eq!(
                key(&scratch, "openai"),
                Err(
                    "the environment variable OPENAI_API_KEY is empty\nPut the key there, alone on one line."
                        .to_owned()
                )
            );
        }
    }

    #[test]
    fn a_key_comes_from_a_file_of_its_own() {
        for text in ["sk-f", "sk-f\n", "sk-f\r\n"] {
            let scratch = from_file();
            scratch.write_key(PATH, text);
            assert_eq!(key(&scratch, "openai"), Ok(Some("sk-f".to_owned())));
        }
        let scratch = from_file();
        scratch.write_key(PATH, "\n");
        let empty = "the key file /home/.config/agenthost/k is empty\nPut the key there, alone on one line.";
        assert_eq!(key(&scratch, "openai"), Err(empty.to_owned()));
    }

    #[test]
    fn a_key_file_is_private() {
        for (mode, shown) in [(0o640, "640"), (0o604, "604"), (0o620, "620")] {
            let scratch = from_file();
            scratch.write_key(PATH, "sk-secret");
            fs::set_permissions(scratch.path(PATH), fs::Permissions::from_mode(mode)).unwrap();
            let error = scratch.load().key("openai").unwrap_err();
            assert_eq!(error.class(), ErrorClass::Denied);
            assert_eq!(
                scratch.shown(&error),
                format!(
                    "the key file /home/.config/agenthost/k can be used by others (mode {shown})\n\
                     Run `chmod 600 /home/.config/agenthost/k`."
                )
            );
        }
    }

    #[test]
    fn another_kind_of_file_is_refused() {
        let says = |scratch: &Scratch| key(scratch, "openai").unwrap_err();
        let scratch = from_file();
        assert_eq!(
            says(&scratch),
            "cannot read the key file /home/.config/agenthost/k: No such file or directory (os error 2)"
        );
        symlink("/dev/zero", scratch.path(PATH)).unwrap();
        assert_eq!(
            says(&scratch),
            "cannot read the key file /home/.config/agenthost/k: it is not a regular file"
        );
        let scratch = from_file();
        scratch.write_key(PATH, &"k".repeat(8_193));
        assert_eq!(
            says(&scratch),
            "the key file /home/.config/agenthost/k is larger than 8 KiB"
        );
    }

    #[test]
    fn a_key_file_is_read_at_use() {
        let scratch = from_file();
        scratch.write_key(PATH, "old");
        let config = scratch.load();
        scratch.write_key(PATH, "new");
        assert_eq!(config.key("openai").unwrap().unwrap().expose_secret(), "new");
    }

    fn fields(scratch: &Scratch, provider: &str) -> Result<Vec<(FieldPlace, String, String, bool)>, String> {
        let fields = scratch.load().fields(provider).map_err(|error| scratch.shown(&error))?;
        let shown = |field: ReadField| {
            let value = field.value.expose_secret().to_owned();
            (field.place, field.name, value, field.is_secret)
        };
        Ok(fields.into_iter().map(shown).collect())
    }

    #[test]
    fn headers_and_parameters_are_read_at_use() {
        let azure = "[providers.azure]\nkind = \"openai\"\nbase-url = \"https://corp.openai.azure.com/openai/deployments/a\"\n\
                     query = { api-version = \"2024-10-21\" }\nheaders = { Api-Key = { env = \"AZURE\" } }";
        let scratch = Scratch::new().user(azure);
        assert_eq!(
            fields(&scratch, "azure"),
            Err(
                "no value for the header `api-key` of provider `azure`: the environment variable AZURE is not set\n\
                 Set AZURE, or name another variable in [providers.azure] (~/.config/agenthost/config.toml:5)."
                    .to_owned()
            )
        );
        let scratch = scratch.var("AZURE", "k-0123\n");
        let text = |text: &str| text.to_owned();
        assert_eq!(
            fields(&scratch, "azure"),
            Ok(vec![
                (FieldPlace::Header, text("api-key"), text("k-0123"), true),
                (FieldPlace::Query, text("api-version"), text("2024-10-21"), false),
            ])
        );
        assert_eq!(key(&scratch, "azure"), Ok(None));
        assert!(
            scratch.load().key_variables().any(|name| name == "AZURE"),
            "no build sees it"
        );
        for (value, says) in [
            ("", "the value is empty"),
            ("a\nsecret", "the value has a control character"),
        ] {
            let error = fields(&Scratch::new().user(azure).var("AZURE", value), "azure").unwrap_err();
            assert!(
                error.starts_with(
                    "the environment variable AZURE does not hold a valid value for the header `api-key`: "
                ) && error.contains(says)
                    && error.contains("\nCorrect AZURE. ")
                    && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_header_that_identifies_the_caller_takes_the_place_of_the_usual_key() {
        for header in ["authorization", "x-api-key", "api-key"] {
            let user = format!("[providers.openai]\nheaders.{header}.env = \"OWN\"");
            let scratch = Scratch::new().user(&user).var("OPENAI_API_KEY", "sk-a").var("OWN", "b");
            assert_eq!(key(&scratch, "openai"), Ok(None), "{header}");
        }
        let scratch = Scratch::new()
            .user("[providers.openai]\nkey-env = \"OPENAI_API_KEY\"\nheaders.api-key.env = \"OWN\"")
            .var("OPENAI_API_KEY", "sk-a")
            .var("OWN", "b");
        assert_eq!(
            key(&scratch, "openai"),
            Ok(Some("sk-a".to_owned())),
            "a named key is sent too"
        );
    }
}
