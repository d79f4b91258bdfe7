//! WIT types without values: decoded from a component, as JSON Schema, as signatures, and as shapes that can be compared.

mod path;
pub mod schema;
pub mod shape;
pub mod signature;
mod wit;

#[doc(hidden)]
pub use self::path::Path;
pub use self::path::{ValueError, ValueErrorKind};
pub use self::wit::decode;

/// The most levels of JSON, the innermost value included.
///
/// A JSON reader with the customary limit of 128, such as `serde_json`, reads back whatever has no more than these.
/// A component's types nest at most 100 deep, so only a value made by hand can get here.
pub const MAX_DEPTH: usize = 127;

/// A larger finite number is not an `f32`: the decimal that `f32::MAX` prints as.
pub const MAX_F32: f64 = 3.402_823_5e38;

/// The names of the floats that JSON has no number for.
pub const NON_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];
