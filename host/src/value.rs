//! WIT values as JSON, and WIT types as JSON Schema, as signatures, and as shapes that can be compared.
//!
//! What a person or a script writes as a task's input becomes a [`Val`](wasmtime::component::Val) of the plugin's own type, and what the plugin
//! returns becomes JSON again. The mapping is a contract that people script against:
//!
//! | WIT | JSON |
//! |---|---|
//! | `bool`, `string`, `char` | a bool; a string; a string of one Unicode scalar value |
//! | integers | a number; of `u64` and `s64` also a decimal string. `3.0` is the integer 3 (as in JSON Schema) up to 2^53, beyond which a float may have lost digits and is refused |
//! | `f32`, `f64` | a number, or `"NaN"`, `"Infinity"`, `"-Infinity"`; an `f32` prints in its own shortest form |
//! | `list<T>`, `list<T, N>`, `tuple<…>` | a list |
//! | `map<K, V>` | a list of `[key, value]` pairs, whatever the key |
//! | `record` | an object; an absent `option` field is none, an unknown field is refused |
//! | `variant` | `"name"`, or `{"name": payload}` where the case has one |
//! | `enum`, `flags` | the name; a list of names without duplicates |
//! | `option<T>` | `null` or the value; an option directly inside an option writes `{"some": …}` |
//! | `result<T, E>` | `{"ok": …}` or `{"err": …}`, `null` where there is no payload |
//!
//! Handles to resources, futures, streams and error contexts belong to a running component and have no JSON form.
//!
//! Bounds: [`MAX_NODES`] values and [`MAX_TEXT`] bytes of strings in one call, [`MAX_DEPTH`] levels. Every conversion
//! takes time in proportion to the value, and copies each string once.
//!
//! Left out: JSON text. Reading it, and bounding how much of it is read, is the business of whoever has the bytes.

mod decode;
mod encode;
mod number;
mod sample;
pub mod schema;
pub mod shape;
pub mod signature;
mod size;
mod wit;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;

pub use self::decode::from_json;
pub use self::encode::to_json;
pub use self::sample::sample;
pub(crate) use self::size::size;
pub use self::wit::decode;
pub(crate) use self::words::nearest;

use crate::error::Error;

/// The most values in one conversion: every list item, field and payload counts, and so does an absent `option` field.
///
/// One value takes 40 bytes as a [`Val`](wasmtime::component::Val) and 72 as a [`serde_json::Value`], so this bounds a conversion to about
/// 112 MiB besides its strings. A `list<u8>` can carry 1 MiB.
pub const MAX_NODES: usize = 1 << 20;

/// The most bytes of strings in one conversion: what the default memory limit of a task, 64 MiB, could never hold.
pub const MAX_TEXT: usize = 64 << 20;

/// The most levels of JSON, the innermost value included.
///
/// A JSON reader with the customary limit of 128, such as `serde_json`, reads back whatever has no more than these.
/// A component's types nest at most 100 deep, so only a value made by hand can get here.
pub const MAX_DEPTH: usize = 127;

/// What kind of thing is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueErrorKind {
    /// The value is not of its type.
    Mismatch,
    /// The value is larger or deeper than [`MAX_NODES`], [`MAX_TEXT`] or [`MAX_DEPTH`] allow.
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
struct Path<'a> {
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
    fn root(name: &'a str) -> Self {
        Self {
            step: Step::Root(name),
            depth: 1,
        }
    }

    fn name(&'a self, name: &'a str) -> Self {
        Self {
            step: Step::Name(self, name),
            depth: self.depth + 1,
        }
    }

    fn index(&'a self, index: usize) -> Self {
        Self {
            step: Step::Index(self, index),
            depth: self.depth + 1,
        }
    }

    /// Any item of a list: the path of a type rather than of a value.
    fn each(&'a self) -> Self {
        Self {
            step: Step::Each(self),
            depth: self.depth + 1,
        }
    }

    /// The same place one level deeper: what an option holds.
    fn inside(&'a self) -> Self {
        Self {
            step: Step::Inside(self),
            depth: self.depth + 1,
        }
    }

    fn fail(&self, kind: ValueErrorKind, problem: impl Into<String>) -> ValueError {
        ValueError {
            kind,
            path: self.to_string(),
            problem: problem.into(),
        }
    }

    fn mismatch(&self, problem: impl Into<String>) -> ValueError {
        self.fail(ValueErrorKind::Mismatch, problem)
    }

    fn unsupported(&self, what: &str) -> ValueError {
        self.fail(
            ValueErrorKind::Unsupported,
            format!("{what} belongs to a running component and has no JSON form"),
        )
    }

    fn check_depth(&self) -> Result<(), ValueError> {
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

/// What is left of the bounds of one conversion.
struct Budget {
    nodes: usize,
    text: usize,
}

impl Budget {
    fn new() -> Self {
        Self {
            nodes: MAX_NODES,
            text: MAX_TEXT,
        }
    }

    /// Takes `count` values, before any room is made for them.
    fn nodes(&mut self, count: usize, at: &Path<'_>) -> Result<(), ValueError> {
        self.nodes = self.nodes.checked_sub(count).ok_or_else(|| {
            at.fail(
                ValueErrorKind::TooLarge,
                format!("more than {MAX_NODES} values in all up to here"),
            )
        })?;
        Ok(())
    }

    /// Takes the bytes of `text` and gives them back as a copy.
    fn text(&mut self, text: &str, at: &Path<'_>) -> Result<String, ValueError> {
        self.text = self.text.checked_sub(text.len()).ok_or_else(|| {
            at.fail(
                ValueErrorKind::TooLarge,
                format!("more than {MAX_TEXT} bytes of strings in all up to here"),
            )
        })?;
        Ok(text.to_owned())
    }
}
