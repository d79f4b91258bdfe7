//! Paths in a value or a type, and the errors that contain them.

use std::fmt;

use agenthost_core::error::{Classify, ErrorClass};

use super::MAX_DEPTH;

/// The kind of a value error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueErrorKind {
    /// The value does not match its type.
    Mismatch,
    /// The value is too large or too deep to convert.
    TooLarge,
    /// The type has no JSON form.
    Unsupported,
}

/// An error for a value that cannot be converted, with its path: `input.questions[1]: expected string, found number`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ValueError {
    kind: ValueErrorKind,
    path: String,
    problem: String,
}

impl ValueError {
    /// The kind of the error.
    pub fn kind(&self) -> ValueErrorKind {
        self.kind
    }

    /// The path of the value: the root's name, then `.field`, `.case`, `.ok`, `.err`, `.some` and `[index]`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The problem with the value, without the path.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl Classify for ValueError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Input
    }
}

/// A position in a value; it is stored on the stack and costs nothing until an error prints it.
pub struct Path<'a> {
    step: PathStep<'a>,
    depth: usize,
}

enum PathStep<'a> {
    Root(&'a str),
    Name(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
    Each(&'a Path<'a>),
    Inside(&'a Path<'a>),
}

impl<'a> Path<'a> {
    /// Returns the path of the root value with this name.
    #[doc(hidden)]
    pub fn root(name: &'a str) -> Self {
        Self {
            step: PathStep::Root(name),
            depth: 1,
        }
    }

    /// Returns the path of a field or case.
    pub fn name(&'a self, name: &'a str) -> Self {
        Self {
            step: PathStep::Name(self, name),
            depth: self.depth + 1,
        }
    }

    /// Returns the path of a list item.
    pub fn index(&'a self, index: usize) -> Self {
        Self {
            step: PathStep::Index(self, index),
            depth: self.depth + 1,
        }
    }

    /// Returns the path of any list item, for a type rather than a value.
    pub fn each(&'a self) -> Self {
        Self {
            step: PathStep::Each(self),
            depth: self.depth + 1,
        }
    }

    /// Returns the same path one level deeper, for the value inside an option.
    pub fn inside(&'a self) -> Self {
        Self {
            step: PathStep::Inside(self),
            depth: self.depth + 1,
        }
    }

    /// Creates an error of this kind at this path.
    pub fn fail(&self, kind: ValueErrorKind, problem: impl Into<String>) -> ValueError {
        ValueError {
            kind,
            path: self.to_string(),
            problem: problem.into(),
        }
    }

    /// Creates an error for a value that does not match its type.
    pub fn mismatch(&self, problem: impl Into<String>) -> ValueError {
        self.fail(ValueErrorKind::Mismatch, problem)
    }

    /// Creates an error for a type that has no JSON form.
    pub fn unsupported(&self, what: &str) -> ValueError {
        self.fail(
            ValueErrorKind::Unsupported,
            format!("{what} belongs to a running component and has no JSON form"),
        )
    }

    /// The number of levels: 1 for the root.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Returns an error if the path is deeper than [`MAX_DEPTH`] levels.
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
            PathStep::Root(name) => f.write_str(name),
            PathStep::Name(parent, name) => write!(f, "{parent}.{name}"),
            PathStep::Index(parent, index) => write!(f, "{parent}[{index}]"),
            PathStep::Each(parent) => write!(f, "{parent}[]"),
            PathStep::Inside(parent) => write!(f, "{parent}"),
        }
    }
}
