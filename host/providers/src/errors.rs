//! Classifies the errors of model services.
//!
//! `errors.toml` has the wordings of many services, each with its source. The first row that matches an error decides
//! its kind; without one, the status does. The status alone is misleading: an exhausted budget has the same status as a
//! temporary rate limit, a full context the same as a wrong request, and gateways have statuses and pages of their own.
//!
//! An error is read wherever it is: in `error`, in a list, as plain text, or as JSON in the text of a gateway's error.

use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::{mend, quota};
use agenthost_core::llm::ProviderErrorKind;

/// The deepest error inside of another that is read.
const DEPTH: usize = 8;
/// The number of errors that are read of a list.
const LISTED: usize = 4;
/// The number of messages that are read.
const MESSAGES_READ: usize = 32;
/// The members in which a body has its message, in the order in which they are shown.
const MESSAGES: [&str; 11] = [
    "error",
    "message",
    "Message",
    "msg",
    "error_message",
    "errors",
    "detail",
    "details",
    "metadata",
    "raw",
    "innererror",
];
/// The members in which it has words for programs.
const NAMES: [&str; 9] = [
    "code",
    "type",
    "status",
    "reason",
    "param",
    "error_code",
    "error_type",
    "__type",
    "error_name",
];

/// An error, as its body describes it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fault {
    /// The status that the body names.
    status: Option<u16>,
    /// The codes and types, in lower case.
    names: Vec<String>,
    /// The messages, outermost first.
    messages: Vec<String>,
    /// The longest wait that it asks for.
    pub(crate) wait: Option<Duration>,
    /// `true` if the body is text.
    is_text: bool,
}

impl Fault {
    /// Reads the body of an error.
    pub(crate) fn read(body: &Value) -> Self {
        let mut fault = Self::default();
        fault.collect(body, 0);
        let wait = fault
            .messages
            .iter()
            .filter_map(|message| quota::wait_in_words(message))
            .max();
        fault.wait = fault.wait.max(wait);
        fault
    }

    /// Reads the body of an error that is not JSON: a line of text, a page, or nothing.
    pub(crate) fn read_text(body: &str) -> Self {
        let text = body.trim();
        if text.starts_with('<') || text.is_empty() {
            return Self::default();
        }
        Self {
            is_text: true,
            ..Self::read(&Value::String(text.to_owned()))
        }
    }

    fn collect(&mut self, value: &Value, depth: usize) {
        if depth > DEPTH {
            return;
        }
        match value {
            Value::String(_) if self.messages.len() >= MESSAGES_READ => {}
            Value::String(text) => {
                let text = text.trim();
                match mend::parse(text) {
                    Ok(inner) if inner.is_object() || inner.is_array() => self.collect(&inner, depth + 1),
                    _ if text.is_empty() || self.messages.iter().any(|known| known.contains(text)) => {}
                    _ => self.messages.push(text.to_owned()),
                }
            }
            Value::Array(items) => items.iter().take(LISTED).for_each(|item| self.collect(item, depth + 1)),
            Value::Object(members) => {
                for name in NAMES.iter().filter_map(|name| members.get(*name)) {
                    self.name(name);
                }
                for (name, seconds) in [
                    ("retryDelay", 1.0),
                    ("retry_after", 1.0),
                    ("retry_after_seconds", 1.0),
                    ("retry_after_ms", 0.001),
                ] {
                    let wait = members.get(name).and_then(|value| quota::wait_of(value, seconds));
                    self.wait = self.wait.max(wait);
                }
                if self.messages.len() < MESSAGES_READ
                    && let Some(Value::Array(place)) = members.get("loc")
                    && let Some(Value::String(message)) = members.get("msg")
                {
                    // FastAPI names the field beside the message.
                    let place: Vec<&str> = place.iter().filter_map(Value::as_str).collect();
                    self.messages.push(format!("{}: {message}", place.join(".")));
                }
                for message in MESSAGES.iter().filter_map(|name| members.get(*name)) {
                    self.collect(message, depth + 1);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn name(&mut self, name: &Value) {
        let text = match name {
            Value::String(text) => text.to_ascii_lowercase(),
            Value::Number(number) => number.to_string(),
            _ => return,
        };
        // A number is an HTTP status, and for an error inside of a 200 it is the only correct one.
        let status = text.parse().ok().filter(|status| (400..600).contains(status));
        self.status = self.status.or(status);
        self.names.push(text);
    }

    /// Returns the kind of the error in a reply with `status`.
    pub(crate) fn kind(&self, status: u16) -> ProviderErrorKind {
        let status = self.status.unwrap_or(status);
        let said = self.messages.join("\n").to_lowercase();
        let row = ROWS.iter().find(|row| row.matches(status, &self.names, &said));
        match row.map_or_else(|| kind_of_status(status), |row| row.class.0) {
            ProviderErrorKind::RateLimited if never_fits(&said) => ProviderErrorKind::TooLarge,
            kind => kind,
        }
    }

    /// Returns the message for people; `body` is the text of a reply that is not in any known form.
    pub(crate) fn message(&self, status: u16, body: &str) -> String {
        match self.messages.as_slice() {
            [] => gateway_text(self.status.unwrap_or(status), body),
            _ if self.is_text => gateway_text(status, body),
            [only] => only.clone(),
            [outer, inner, ..] => format!("{outer}: {inner}"),
        }
    }
}

/// Returns whether the message of a rate limit error reports that this request alone exceeds the whole limit.
fn never_fits(said: &str) -> bool {
    let number = |name: &str| {
        said.match_indices(name).find_map(|(at, _)| {
            let after = said.get(at + name.len()..)?;
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().ok()
        })
    };
    match (number("limit "), number("requested ")) {
        (Some(limit), Some(requested)) => requested > limit,
        _ => said.starts_with("request too large"),
    }
}

/// One row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Row {
    /// The services that send it.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the table"))]
    services: Vec<String>,
    /// The kind of the error.
    class: Class,
    /// The codes or types of which the error has one; any if there are none.
    #[serde(default)]
    codes: Vec<String>,
    /// The words that the message has, in lower case.
    #[serde(default)]
    words: Vec<String>,
    /// The statuses that the error may have; [`USUAL`] ones and those of success if there are none and the row has no
    /// codes.
    #[serde(default)]
    statuses: Vec<u16>,
    /// The page that shows the wording.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the table"))]
    source: String,
    /// The status and the body of an example.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test that walks the table"))]
    example: Example,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(test), expect(dead_code, reason = "for the test that walks the table"))]
struct Example {
    status: u16,
    body: String,
}

/// The statuses of errors whose words are looked at: a refused key or an overloaded service needs none.
const USUAL: [u16; 6] = [400, 402, 403, 413, 422, 500];

impl Row {
    fn matches(&self, status: u16, names: &[String], said: &str) -> bool {
        let status_fits = if self.statuses.is_empty() {
            !self.codes.is_empty() || USUAL.contains(&status) || (200..300).contains(&status)
        } else {
            self.statuses.contains(&status)
        };
        status_fits
            && (self.codes.is_empty() || self.codes.iter().any(|code| names.contains(code)))
            && self.words.iter().all(|words| said.contains(words))
    }
}

/// The name of a kind of error.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Class(ProviderErrorKind);

impl TryFrom<String> for Class {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let kind = ProviderErrorKind::from_name(&name);
        kind.map(Self).ok_or_else(|| format!("unknown class {name}"))
    }
}

#[derive(Debug, Default, Deserialize)]
struct Table {
    error: Vec<Row>,
}

/// The rows of the table. A test ensures that it is valid.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| toml::from_str::<Table>(TABLE).unwrap_or_default().error);

const TABLE: &str = include_str!("errors.toml");

/// The kind of an HTTP status, if the body does not specify one.
fn kind_of_status(status: u16) -> ProviderErrorKind {
    use ProviderErrorKind as Kind;
    match status {
        401 => Kind::Authentication,
        402 => Kind::SpendCap,
        403 => Kind::Permission,
        // A success that reports an error.
        200..300 => Kind::Server,
        // Redirects are never followed, so the address is wrong.
        300..400 | 404 | 405 | 410 => Kind::NotFound,
        408 | 504 => Kind::Timeout,
        413 => Kind::TooLarge,
        // Two requests conflicted; the vendors' own SDKs retry.
        409 => Kind::Server,
        429 => Kind::RateLimited,
        502 | 503 | 529 => Kind::Overloaded,
        400..500 => Kind::InvalidRequest,
        500.. => Kind::Server,
        _ => Kind::BadReply,
    }
}

/// The message for an error reply that is not in the API's format: a gateway's page, plain text, or nothing.
pub(crate) fn gateway_text(status: u16, body: &str) -> String {
    let page = body.trim();
    if (300..400).contains(&status) {
        return format!("status {status}, a redirect, which is never followed");
    }
    if page.is_empty() {
        return format!("status {status} with no message");
    }
    if !page.starts_with('<') {
        return format!("status {status}: {page}");
    }
    let title = page
        .split_once("<title>")
        .and_then(|(_, rest)| rest.split_once("</title>"))
        .map(|(title, _)| title.trim());
    match title {
        Some(title) => format!("status {status} with a page titled {title:?}"),
        None => format!("status {status} with a page instead of an answer"),
    }
}

#[cfg(test)]
mod tests;
