//! Converts WIT values to JSON and back. [`agenthost_plugin::types`] describes types without a value.
//!
//! The input that a person or a script writes for a task becomes a [`Val`](wasmtime::component::Val) of the plugin's
//! own type, and the value that the plugin returns becomes JSON again. The mapping is a contract that people script
//! against:
//!
//! | WIT | JSON |
//! |---|---|
//! | `bool`, `string`, `char` | a bool; a string; a string of one Unicode scalar value |
//! | integers | a number; of `u64` and `s64` also a decimal string. `3.0` is the integer 3 (as in JSON Schema) up to 2^53, beyond which a float may have lost digits and is refused |
//! | `f32`, `f64` | a number, or `"NaN"`, `"Infinity"`, `"-Infinity"`; an `f32` prints in its own shortest form |
//! | `list<T>`, `list<T, N>`, `tuple<…>` | a list |
//! | `map<K, V>` | a list of `[key, value]` pairs, whatever the key |
//! | `record` | an object; an absent `option` field is `none`, an unknown field is refused |
//! | `variant` | `"name"`, or `{"name": payload}` where the case has one |
//! | `enum`, `flags` | the name; a list of names without duplicates |
//! | `option<T>` | `null` or the value; an option directly inside an option writes `{"some": …}` |
//! | `result<T, E>` | `{"ok": …}` or `{"err": …}`; the value is `null` if the case has no payload |
//! | `json` of `agenthost:plugin/types` | any value; with those around it at most 100 levels deep |
//!
//! Handles to resources, futures, streams and error contexts belong to a running component and have no JSON form.
//!
//! The bounds are [`MAX_NODES`] values, [`MAX_TEXT`] bytes of strings, and [`MAX_DEPTH`] levels in one call. Every
//! conversion takes time in proportion to the value, and copies each string once.
//!
//! Left out: JSON text. The caller reads it, and bounds how much it reads.

mod decode;
mod encode;
mod number;
mod sample;
mod size;
mod words;

#[cfg(test)]
mod tests;

pub use self::decode::from_json;
pub use self::encode::to_json;
pub use self::sample::sample;
pub(crate) use self::size::size;

pub use agenthost_plugin::types::{MAX_DEPTH, MAX_NODES, ValueError, ValueErrorKind};

use agenthost_plugin::types::Path;

/// The maximum number of bytes of strings in one conversion: the default memory limit of a task, 64 MiB, which leaves
/// no room for more.
pub const MAX_TEXT: usize = 64 << 20;

/// The remaining bounds of one conversion.
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

    /// Takes `count` values, before any memory is allocated for them.
    fn nodes(&mut self, count: usize, at: &Path<'_>) -> Result<(), ValueError> {
        self.nodes = self.nodes.checked_sub(count).ok_or_else(|| {
            at.fail(
                ValueErrorKind::TooLarge,
                format!("more than {MAX_NODES} values in all up to here"),
            )
        })?;
        Ok(())
    }

    /// Takes the bytes of `text` and returns a copy.
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
