//! Errors of the host outside a task: a wrong flag, a broken plugin, a refused import.
//!
//! Each crate has its own error types: enums whose variants carry the data of one cause, such as the path of a missing
//! file. They implement [`Classify`]. [`Error`] is the type at the border between crates. Every classified error
//! converts into it with `?`, and [`Error::downcast_ref`] returns the typed error again.
//!
//! A failure *inside* a task is not an error of the host but an outcome of the task: see [`crate::task::Outcome`]. Exit
//! codes, and hints that name commands or flags, belong to the command line and are not defined here.

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
///     class => panic!("{} is not the expected class", class.name()),
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

/// An error type of one crate, with the class of each of its causes.
///
/// `Display` describes the error and its place, without the causes in `source`: see [`with_causes`].
///
/// ```
/// use std::path::PathBuf;
/// use agenthost_core::error::{Classify, Error, ErrorClass};
///
/// #[derive(Debug, thiserror::Error)]
/// #[non_exhaustive]
/// enum NotesError {
///     #[error("cannot read the notes in {path}")]
///     Read { path: PathBuf, source: std::io::Error },
///     #[error("the notes have {lines} lines, and at most {most} are allowed")]
///     TooLong { lines: usize, most: usize },
/// }
///
/// impl Classify for NotesError {
///     fn class(&self) -> ErrorClass {
///         match self {
///             Self::Read { .. } => ErrorClass::Host,
///             Self::TooLong { .. } => ErrorClass::Input,
///         }
///     }
///     fn hint(&self) -> Option<String> {
///         matches!(self, Self::TooLong { .. }).then(|| "Shorten the notes.".into())
///     }
/// }
///
/// fn check(lines: usize) -> Result<(), NotesError> {
///     if lines > 9 { Err(NotesError::TooLong { lines, most: 9 }) } else { Ok(()) }
/// }
/// fn caller() -> Result<(), Error> {
///     Ok(check(12)?)
/// }
///
/// let error = caller().unwrap_err();
/// assert_eq!((error.class(), error.hint()), (ErrorClass::Input, Some("Shorten the notes.")));
/// assert!(matches!(error.downcast_ref(), Some(NotesError::TooLong { lines: 12, .. })));
/// ```
pub trait Classify: StdError + Send + Sync + 'static {
    /// The kind of the error.
    fn class(&self) -> ErrorClass;

    /// The suggested next step, as a sentence. It names files and their keys, but no commands or flags.
    fn hint(&self) -> Option<String> {
        None
    }

    /// The error of another part that this one passes on unchanged (`#[error(transparent)]`). It is not among the
    /// causes, but [`Error::downcast_ref`] finds it.
    fn inner(&self) -> Option<Inner<'_>> {
        None
    }
}

/// An error that another one passes on unchanged.
#[derive(Debug, Clone, Copy)]
pub enum Inner<'a> {
    /// An error in the type of its part.
    Typed(&'a dyn Classify),
    /// An error of any part.
    Erased(&'a Error),
}

/// Describes an error and its causes: `cannot read the notes: permission denied`.
///
/// ```
/// use agenthost_core::error::{Error, with_causes};
///
/// let denied = std::io::Error::other("permission denied");
/// let error = Error::host("cannot read the notes").caused_by(denied);
/// assert_eq!(with_causes(&error), "cannot read the notes: permission denied");
/// ```
pub fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    for cause in chain(error.source()) {
        text.push_str(&format!(": {cause}"));
    }
    text
}

/// Returns an error and its causes, the nearest first.
fn chain<'a>(first: Option<&'a (dyn StdError + 'static)>) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(first, |&error| error.source())
}

/// An error of any crate, with its class, the place where it happened, and the next step.
///
/// The message is a lowercase fragment without a full stop that names the file, plugin, interface or limit. The hint
/// is a whole sentence that suggests what to do.
///
/// ```
/// use agenthost_core::error::{Error, ErrorClass};
///
/// let error = Error::config("invalid value of `calls`").at("agenthost.toml".as_ref()).with_hint("Write calls = 10.");
/// assert_eq!(error.to_string(), "agenthost.toml: invalid value of `calls`");
/// assert_eq!((error.class(), error.hint()), (ErrorClass::Config, Some("Write calls = 10.")));
/// ```
#[derive(Debug)]
pub struct Error {
    class: ErrorClass,
    message: String,
    /// The hint of the typed error.
    own_hint: Option<String>,
    added_hint: Option<String>,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    None,
    /// The error itself, in the type of its crate.
    Typed(Box<dyn Classify>),
    Source(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// Creates an error of `class`.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            own_hint: None,
            added_hint: None,
            cause: Cause::None,
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

    /// Sets the next step, as a sentence. It replaces the hint of the typed error.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.added_hint = Some(hint.into());
        self
    }

    /// Adds the underlying error.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Cause::Source(source.into());
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
        self.added_hint().or(self.own_hint.as_deref())
    }

    /// The hint that was set with [`with_hint`](Self::with_hint), and not by the typed error.
    #[doc(hidden)]
    pub fn added_hint(&self) -> Option<&str> {
        self.added_hint.as_deref()
    }

    /// Returns the error, or the nearest of its causes, in the type `E` of one crate.
    ///
    /// ```
    /// use agenthost_core::error::Error;
    ///
    /// let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    /// let error = Error::host("cannot read the notes").caused_by(missing);
    /// let cause: Option<&std::io::Error> = error.downcast_ref();
    /// assert_eq!(cause.map(|cause| cause.kind()), Some(std::io::ErrorKind::NotFound));
    /// ```
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        let first: &(dyn StdError + 'static) = match &self.cause {
            Cause::None => return None,
            Cause::Typed(typed) => match find(&**typed) {
                Some(found) => return Some(found),
                None => typed.source()?,
            },
            Cause::Source(source) => &**source,
        };
        chain(Some(first)).find_map(|error| match error.downcast_ref::<Self>() {
            // Its typed error is not among its sources.
            Some(inner) => inner.downcast_ref(),
            None => error.downcast_ref(),
        })
    }
}

/// Returns `error`, or an error that it passes on, in the type `E`.
fn find<E: StdError + 'static>(error: &dyn Classify) -> Option<&E> {
    let itself: &(dyn StdError + 'static) = error;
    itself.downcast_ref().or_else(|| match error.inner()? {
        Inner::Typed(inner) => find(inner),
        Inner::Erased(inner) => inner.downcast_ref(),
    })
}

impl<E: Classify> From<E> for Error {
    fn from(error: E) -> Self {
        Self {
            class: error.class(),
            message: error.to_string(),
            own_hint: error.hint(),
            added_hint: None,
            cause: Cause::Typed(Box::new(error)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            Cause::None => None,
            Cause::Typed(typed) => typed.source(),
            Cause::Source(source) => Some(&**source),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum LeafError {
        #[error("no page {0}")]
        Missing(u32),
    }

    impl Classify for LeafError {
        fn class(&self) -> ErrorClass {
            ErrorClass::Input
        }

        fn hint(&self) -> Option<String> {
            let Self::Missing(page) = self;
            Some(format!("Add page {page}."))
        }
    }

    #[derive(Debug, thiserror::Error)]
    enum BookError {
        #[error("cannot print")]
        Print(#[source] io::Error),
        #[error("book {title}")]
        Leaf { title: &'static str, source: LeafError },
        #[error("shelf")]
        Erased(#[source] Error),
    }

    impl Classify for BookError {
        fn class(&self) -> ErrorClass {
            match self {
                Self::Print(_) => ErrorClass::Host,
                Self::Leaf { source, .. } => source.class(),
                Self::Erased(source) => source.class(),
            }
        }
    }

    #[test]
    fn a_typed_error_keeps_its_class_message_hint_and_causes() {
        let error = Error::from(LeafError::Missing(7));
        assert_eq!(error.class(), ErrorClass::Input);
        assert_eq!(error.hint(), Some("Add page 7."));
        assert_eq!(
            with_causes(&error),
            "no page 7",
            "the typed error is not a cause of itself"
        );
        let error = error.with_hint("Turn the page.");
        assert_eq!(
            (error.hint(), error.added_hint()),
            (Some("Turn the page."), Some("Turn the page."))
        );
        let error = Error::from(BookError::Print(io::Error::other("no paper"))).at("a.txt".as_ref());
        assert_eq!((error.class(), error.hint()), (ErrorClass::Host, None));
        assert_eq!(with_causes(&error), "a.txt: cannot print: no paper");
    }

    #[test]
    fn a_typed_error_is_found_at_every_depth() {
        let leaf = || LeafError::Missing(3);
        let near = Error::from(BookError::Leaf {
            title: "Tides",
            source: leaf(),
        });
        assert!(matches!(
            near.downcast_ref(),
            Some(BookError::Leaf { title: "Tides", .. })
        ));
        let erased = Error::from(BookError::Erased(Error::from(leaf()).context("here")));
        let added = Error::host("outer").caused_by(Error::from(leaf()));
        for error in [near, erased, added] {
            assert!(matches!(error.downcast_ref(), Some(LeafError::Missing(3))), "{error:?}");
            assert!(error.downcast_ref::<io::Error>().is_none(), "{error:?}");
        }
    }
}
