//! Errors of the host outside a task: a wrong flag, a broken plugin, a refused import.
//!
//! A failure *inside* a task is not an error of the host but an outcome of the task: see [`crate::task::Outcome`]. Exit
//! codes belong to the command line and are not defined here.

use std::error::Error as StdError;
use std::fmt;

/// The result of a host operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error. Scripts match on its [name](ErrorClass::name).
///
/// ```
/// use agenthost_core::error::{Error, ErrorClass};
///
/// let error = Error::config("no model is named `fsat`").with_hint("Name one of [models].");
/// match error.class() {
///     ErrorClass::Config => assert!(error.message().contains("fsat")),
///     class => panic!("{} is not what was expected", class.name()),
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The command line or an API call is invalid.
    Usage,
    /// The task's input is missing, is not valid JSON, or has the wrong type.
    Input,
    /// A configuration file is invalid.
    Config,
    /// A plugin cannot be found, built or loaded.
    Plugin,
    /// The request is for something that is not offered or not granted.
    Denied,
    /// The host itself or its storage failed.
    Host,
}

impl ErrorClass {
    /// The name of the class in JSON output.
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
/// The message is a lowercase fragment without a full stop that names the file, plugin, interface or limit. The hint
/// is a whole sentence that suggests what to do.
///
/// ```
/// use agenthost_core::error::{Error, ErrorClass};
///
/// let error = Error::config("`calls` is no number").at("agenthost.toml".as_ref()).with_hint("Write calls = 10.");
/// assert_eq!(error.to_string(), "agenthost.toml: `calls` is no number");
/// assert_eq!((error.class(), error.hint()), (ErrorClass::Config, Some("Write calls = 10.")));
/// ```
#[derive(Debug)]
pub struct Error {
    class: ErrorClass,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error of `class`.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// Creates an error for an invalid command line or API call.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Usage, message)
    }

    /// Creates an error for invalid task input.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Input, message)
    }

    /// Creates an error for an invalid configuration file.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Config, message)
    }

    /// Creates an error for a plugin that cannot be found, built or loaded.
    pub fn plugin(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Plugin, message)
    }

    /// Creates an error for something that is not offered or not granted.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Denied, message)
    }

    /// Creates an error for a failure of the host itself.
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Host, message)
    }

    /// Prefixes the message with the path of the file it is about.
    #[must_use]
    pub fn at(mut self, path: &std::path::Path) -> Self {
        self.message = format!("{}: {}", path.display(), self.message);
        self
    }

    /// Prefixes the message with its subject.
    #[must_use]
    pub fn context(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds the next step, as a sentence.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the underlying error.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of the error.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// The description of the error and its place, without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The suggested next step, if there is one.
    pub fn hint(&self) -> Option<&str> {
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
