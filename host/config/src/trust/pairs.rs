//! The providers that a file pairs with an address or with a key.
//!
//! A file pairs a provider with an address when it sets its `base-url`: prompts are sent there, with the key if the
//! merged provider has one. A pair has to be accepted once if the file is the project's (or one named in its place),
//! and also if the operator's own file sends a key to a plain http address, because the key travels in clear text.
//! Loopback addresses, the vendors' own addresses and those set by the operator's environment need no acceptance.
//!
//! A project's file pairs a provider with a key when it names the key source, unless that is the usual variable of the
//! provider's kind, a file in the project's folder, or the key source that the operator's own file gives this provider.
//! Otherwise a project could send out any one-line secret. Such a pair has to be accepted whatever the address is.
//!
//! Headers and query parameters belong to the pair. A project's file needs acceptance for each value that it takes from
//! a variable, since the variable may hold any secret. It also needs it for a value that it writes itself: a gateway
//! may read from a header to which service it forwards prompts and the operator's key. Only what a project sends to its
//! own server on loopback, without a key, needs none. A field that repeats the operator's own is the operator's.

use url::{Host, Url};

use super::dirs;
use super::record::{TrustRecord, TrustedPair, digest, unaccepted};
use crate::config::Config;
use crate::error::TrustError;
use crate::origin::Origin;
use crate::resolve::usual_key_variable;
use crate::settings::{FieldSource, KeySource, ProviderConfig, RequestField, SetBy};

/// A pair that the operator has to accept.
pub(super) struct Question<'c> {
    pub(super) pair: TrustedPair,
    pub(super) origin: &'c Origin,
    clear: bool,
    /// `true` if the key is sent.
    with_key: bool,
}

/// Returns whether the provider would receive anything. If its configured key, or a variable of its headers and
/// parameters, is missing, it fails before that.
pub(super) fn sends(config: &Config, name: &str) -> bool {
    config.provider(name).is_some_and(|provider| {
        let has_fields = provider.fields.iter().all(|field| match &field.value {
            FieldSource::Text(_) => true,
            FieldSource::Variable(variable) => config.env.var(variable).is_some(),
        });
        has_fields && (provider.key_assumed || at_hand(config, provider))
    })
}

/// Checks one provider, whether or not a model maps to it.
pub(crate) fn check_provider(config: &Config, name: &str) -> Result<(), TrustError> {
    let Some(Question {
        pair,
        origin,
        clear,
        with_key,
    }) = question(config, name)
    else {
        return Ok(());
    };
    let known = |record: &TrustRecord| record.pairs.iter().any(|known| known.sha256 == pair.sha256);
    let Some(changed) = unaccepted(config, origin, known)? else {
        return Ok(());
    };
    Err(TrustError::Provider {
        at: origin.clone(),
        file: config.env.shown(origin.file()),
        provider: name.to_owned(),
        address: pair.address,
        key: with_key.then_some(pair.key),
        fields: pair.fields,
        clear,
        changed,
    })
}

fn at_hand(config: &Config, provider: &ProviderConfig) -> bool {
    let key = provider.key.as_ref();
    key.is_none_or(|key| key.is_at_hand(&config.env))
}

/// Returns the pair of this provider that the operator has to accept, if there is one.
pub(super) fn question<'c>(config: &'c Config, name: &str) -> Option<Question<'c>> {
    let provider = config.provider(name)?;
    let address = provider.address.as_ref()?;
    let url = Url::parse(&address.url).ok();
    let loopback = url.as_ref().is_some_and(is_loopback);
    let clear = !loopback && url.as_ref().is_none_or(|url| url.scheme() != "https");
    // If a vendor's usual variable is not set, the server is called without a key.
    let with_key = provider.key.is_some() && (!provider.key_assumed || at_hand(config, provider));
    let has_secret = with_key || provider.fields.iter().any(|field| !is_text(field));
    let by_address = || match &address.set_by {
        SetBy::File(origin) => {
            let own = config.user_file() == Some(origin.file());
            (!loopback && (!own || (clear && has_secret))).then_some(origin)
        }
        SetBy::Vendor | SetBy::Variable(_) => None,
    };
    let origin = foreign_key(config, name, provider)
        .or_else(|| foreign_field(config, provider))
        .or_else(by_address)?;
    let key = provider.key.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut parts = vec![name.as_bytes(), address.url.as_bytes(), key.as_bytes()];
    for field in &provider.fields {
        // A file that writes another value sends something else.
        let (source, value) = match &field.value {
            FieldSource::Text(text) => ("text", text),
            FieldSource::Variable(variable) => ("variable", variable),
        };
        parts.extend([field.place.name(), &field.name, source, value].map(str::as_bytes));
    }
    let pair = TrustedPair {
        provider: name.to_owned(),
        address: address.url.clone(),
        sha256: digest(&parts),
        key,
        fields: provider.fields.iter().map(ToString::to_string).collect(),
    };
    Some(Question {
        pair,
        origin,
        clear,
        with_key,
    })
}

/// Returns the place where a project's file names a key source that is not its own to choose.
fn foreign_key<'c>(config: &'c Config, name: &str, provider: &ProviderConfig) -> Option<&'c Origin> {
    let key = provider.key.as_ref()?;
    let field = match key {
        KeySource::Variable(_) => "key-env",
        KeySource::File(_) => "key-file",
    };
    // A key source of the operator's own file counts as the operator's, even if the project's file repeats it.
    let origin = config.origin(&format!("providers.{name}.{field}"))?;
    let own = config.user_file() == Some(origin.file())
        || match key {
            KeySource::Variable(variable) => usual_key_variable(&provider.kind) == Some(variable),
            KeySource::File(path) => dirs::is_beside(path, origin),
        };
    (!own).then_some(origin)
}

/// Returns the place where a project's file sets a header or parameter. A gateway may read from any of them where to send
/// the prompts, and a server on loopback may be a gateway.
fn foreign_field<'c>(config: &'c Config, provider: &'c ProviderConfig) -> Option<&'c Origin> {
    let mut origins = provider.fields.iter().map(|field| &field.origin);
    origins.find(|origin| config.user_file() != Some(origin.file()))
}

fn is_text(field: &RequestField) -> bool {
    matches!(field.value, FieldSource::Text(_))
}

/// Returns whether the host is in 127.0.0.0/8, `::1` or `localhost`.
///
/// ```
/// use agenthost_config::trust::is_loopback;
///
/// assert!(is_loopback(&"http://[::1]:8080/v1".parse()?));
/// assert!(!is_loopback(&"http://localhost.example/v1".parse()?));
/// # Ok::<(), url::ParseError>(())
/// ```
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
