//! What stops the host from doing what it was asked, outside a task: a wrong flag, a broken plugin, a refused import.
//!
//! What happens *inside* a task is not an error of the host but an outcome of the task: see [`crate::task::Outcome`].
//! Exit codes are the command line's business, so none stand here.

use std::error::Error as StdError;
use std::fmt;

/// The result of a host operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong; scripts match on its [name](ErrorClass::name).
///
/// ```
/// use agenthost_core::error::{Error, ErrorClass};
///
/// let error = Error::config("no model is named `fsat`").hint("Name one of [models].");
/// match error.class() {
///     ErrorClass::Config => assert!(error.message().contains("fsat")),
///     class => panic!("{} is not what was expected", class.name()),
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The command line or an API call makes no sense.
    Usage,
    /// The task's input is missing, is no JSON, or has the wrong type.
    Input,
    /// A configuration file is wrong.
    Config,
    /// A plugin cannot be found, built or loaded.
    Plugin,
    /// Something was asked for that is not offered or not granted.
    Denied,
    /// The host itself failed, or its storage.
    Host,
}

impl ErrorClass {
    /// The class as it stands in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Input => "input",
            Self::Config => "config",
            Self::Plugin => "plugin",
            Self::Denied => "denied",
            Self::Host => "host",
        }
    }
}

/// An error with its class, the place where it happened, and the next step.
///
/// The message is a lower-case fragment without a full stop that names the file, plugin, interface or limit; the hint
/// is a whole sentence that says what to do.
///
/// ```
/// use agenthost_core::error::{Error, ErrorClass};
///
/// let error = Error::config("`calls` is no number").at("agenthost.toml".as_ref()).hint("Write calls = 10.");
/// assert_eq!(error.to_string(), "agenthost.toml: `calls` is no number");
/// assert_eq!((error.class(), error.next_step()), (ErrorClass::Config, Some("Write calls = 10.")));
/// ```
#[derive(Debug)]
pub struct Error {
    class: ErrorClass,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `class`.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// The command line or an API call makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Usage, message)
    }

    /// The task's input is wrong.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Input, message)
    }

    /// A configuration file is wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Config, message)
    }

    /// A plugin cannot be found, built or loaded.
    pub fn plugin(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Plugin, message)
    }

    /// Something is not offered or not granted.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Denied, message)
    }

    /// The host itself failed.
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Host, message)
    }

    /// The same with the file it is about in front.
    #[must_use]
    pub fn at(mut self, path: &std::path::Path) -> Self {
        self.message = format!("{}: {}", path.display(), self.message);
        self
    }

    /// The same with what it is about in front.
    #[must_use]
    pub fn context(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds the next step, as a sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of thing went wrong.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// What happened and where, without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
