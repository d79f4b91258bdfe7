//! Places in a value or a type, and the errors that name them.

use std::fmt;

use agenthost_core::error::Error;

use super::MAX_DEPTH;

/// What kind of thing is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueErrorKind {
    /// The value is not of its type.
    Mismatch,
    /// The value is larger or deeper than a conversion may be.
    TooLarge,
    /// The type has no JSON form.
    Unsupported,
}

/// A value that has no place in the other world, named by its path: `input.questions[1]: expected string, found number`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ValueError {
    kind: ValueErrorKind,
    path: String,
    problem: String,
}

impl ValueError {
    /// What kind of thing is wrong.
    pub fn kind(&self) -> ValueErrorKind {
        self.kind
    }

    /// Where: the root's name, then `.field`, `.case`, `.ok`, `.err`, `.some` and `[index]`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there, without the path.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl From<ValueError> for Error {
    fn from(error: ValueError) -> Self {
        Self::input(error.to_string())
    }
}

/// Where in a value we are; lives on the stack and costs nothing until an error wants to print it.
pub struct Path<'a> {
    step: Step<'a>,
    depth: usize,
}

enum Step<'a> {
    Root(&'a str),
    Name(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
    Each(&'a Path<'a>),
    Inside(&'a Path<'a>),
}

impl<'a> Path<'a> {
    /// The value that has this name.
    #[doc(hidden)]
    pub fn root(name: &'a str) -> Self {
        Self {
            step: Step::Root(name),
            depth: 1,
        }
    }

    /// A field or case of it.
    pub fn name(&'a self, name: &'a str) -> Self {
        Self {
            step: Step::Name(self, name),
            depth: self.depth + 1,
        }
    }

    /// An item of a list.
    pub fn index(&'a self, index: usize) -> Self {
        Self {
            step: Step::Index(self, index),
            depth: self.depth + 1,
        }
    }

    /// Any item of a list: the path of a type rather than of a value.
    pub fn each(&'a self) -> Self {
        Self {
            step: Step::Each(self),
            depth: self.depth + 1,
        }
    }

    /// The same place one level deeper: what an option holds.
    pub fn inside(&'a self) -> Self {
        Self {
            step: Step::Inside(self),
            depth: self.depth + 1,
        }
    }

    /// An error of this kind here.
    pub fn fail(&self, kind: ValueErrorKind, problem: impl Into<String>) -> ValueError {
        ValueError {
            kind,
            path: self.to_string(),
            problem: problem.into(),
        }
    }

    /// An error for a value that is not of its type.
    pub fn mismatch(&self, problem: impl Into<String>) -> ValueError {
        self.fail(ValueErrorKind::Mismatch, problem)
    }

    /// An error for a type that has no JSON form.
    pub fn unsupported(&self, what: &str) -> ValueError {
        self.fail(
            ValueErrorKind::Unsupported,
            format!("{what} belongs to a running component and has no JSON form"),
        )
    }

    /// Returns an error below [`MAX_DEPTH`] levels.
    pub fn check_depth(&self) -> Result<(), ValueError> {
        if self.depth > MAX_DEPTH {
            return Err(self.fail(
                ValueErrorKind::TooLarge,
                format!("nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Root(name) => f.write_str(name),
            Step::Name(parent, name) => write!(f, "{parent}.{name}"),
            Step::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Step::Each(parent) => write!(f, "{parent}[]"),
            Step::Inside(parent) => write!(f, "{parent}"),
        }
    }
}
