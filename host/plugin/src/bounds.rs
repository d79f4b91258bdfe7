//! Bounds on the contents of a component, counted in its bytes before anything decodes, expands or compiles them.
//!
//! `structure` takes one pass over all nested components and modules, and one over their types. Its cost is linear in
//! the bytes, and its counts bound every later step of reading a plugin: instances are counted as they multiply through
//! nested components, and types as they expand where they are used. `code` takes one pass over the bodies of the
//! functions, before they are compiled. `instance_bytes` estimates what the engine holds for an instance.
//!
//! The cost of validating a component is counted as well, because validation compares types part by part, again for
//! each argument of each instance.
//!
//! `wit` counts the words of embedded WIT text.
//!
//! Each bound is a constant with its reason, in `bound`. The largest components in use (CPython with its libraries, 40
//! modules) stay below each. If the compiler runs in its own process, limits on its time and memory catch what a bound
//! cannot foresee.

mod bound;
mod code;
mod instances;
mod structure;
#[cfg(test)]
mod tests;
mod types;
mod validation;
mod wit;

pub use self::code::code;
pub(super) use self::structure::structure;
pub(super) use self::wit::wit;
