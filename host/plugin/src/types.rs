//! WIT types without values: decoding from a component, and conversion to JSON Schema, to signatures, and to shapes
//! that can be compared.

mod json_text;
mod path;
pub mod schema;
pub mod shape;
pub mod signature;
mod wit;

pub use self::json_text::{JsonText, JsonTexts, MAX_LEVELS};
#[doc(hidden)]
pub use self::path::Path;
pub use self::path::{ValueError, ValueErrorKind};
pub use self::wit::decode;

/// The maximum nesting depth of JSON, including the innermost value.
///
/// A JSON parser with the usual limit of 128, such as `serde_json`, accepts this depth. A component's types nest at
/// most 100 deep, so only a hand-written value can exceed it.
pub const MAX_DEPTH: usize = 127;

/// The maximum number of values in one conversion. Every list item, field and payload counts, and so does an absent
/// `option` field.
///
/// One value takes 40 bytes in the engine and 72 as a [`serde_json::Value`], so this bounds a conversion to about 112 MiB
/// besides its strings. A `list<u8>` can carry 1 MiB.
pub const MAX_NODES: usize = 1 << 20;

/// The largest finite `f32`: the decimal that `f32::MAX` prints as.
pub const MAX_F32: f64 = 3.402_823_5e38;

/// The names of the floats that JSON cannot represent as numbers.
pub const NON_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];
