//! Converts Rust names to WIT names, and accepts only those that survive the round trip.
//!
//! WIT writes `dark-green` for `DarkGreen` and `dark_green`, and the bindings derive the Rust name from that.
//! `HTTPError` would become `HttpError`, so it is refused with that suggestion.

use heck::{ToKebabCase as _, ToUpperCamelCase as _};
use syn::ext::IdentExt as _;
use syn::{Error, Ident, Result};
use wit_bindgen_core::wit_parser::validate_id;

use crate::words::{rust_case, rust_ident};

/// The keywords of WIT, which are escaped with `%` when used as names.
const KEYWORDS: &[&str] = &[
    "as",
    "async",
    "bool",
    "borrow",
    "char",
    "constructor",
    "enum",
    "error-context",
    "export",
    "f32",
    "f64",
    "flags",
    "from",
    "func",
    "future",
    "import",
    "include",
    "interface",
    "list",
    "map",
    "option",
    "own",
    "package",
    "record",
    "resource",
    "result",
    "s16",
    "s32",
    "s64",
    "s8",
    "static",
    "stream",
    "string",
    "tuple",
    "type",
    "u16",
    "u32",
    "u64",
    "u8",
    "use",
    "variant",
    "with",
    "world",
];

/// Names with another meaning in a task's module, each with that meaning.
const RESERVED: &[(&str, &str)] = &[
    ("Guest", "the bindings' trait"),
    ("Option", "Rust's own type"),
    ("Result", "Rust's own type"),
    ("Run", "the function `run`, for WIT"),
    ("String", "Rust's own type"),
    ("Vec", "Rust's own type"),
];

/// The WIT name of a type, without escapes.
pub(super) fn of_type(ident: &Ident) -> Result<String> {
    if let Some((name, meaning)) = RESERVED.iter().find(|(name, _)| ident == name) {
        return Err(Error::new(
            ident.span(),
            format!("`{name}` is reserved: it is {meaning}; call the type something else"),
        ));
    }
    of(ident, |name| name.to_upper_camel_case())
}

/// The WIT name of an enum's case, without escapes.
pub(super) fn of_case(ident: &Ident) -> Result<String> {
    of(ident, |name| rust_case(name.to_upper_camel_case()))
}

/// The WIT name of a field, without escapes.
pub(super) fn of_field(ident: &Ident) -> Result<String> {
    of(ident, rust_ident)
}

/// The WIT name of a parameter. Only people read it, so a name that WIT cannot express becomes `input`.
pub(super) fn of_parameter(pattern: &syn::Pat) -> String {
    match pattern {
        syn::Pat::Ident(name) => of_field(&name.ident).unwrap_or_else(|_| "input".to_owned()),
        _ => "input".to_owned(),
    }
}

/// A name as written in WIT text.
pub(super) fn escaped(name: &str) -> String {
    let escape = if KEYWORDS.contains(&name) { "%" } else { "" };
    format!("{escape}{name}")
}

fn of(ident: &Ident, back: impl Fn(&str) -> String) -> Result<String> {
    let text = ident.to_string();
    let refuse = |why: String| Err(Error::new(ident.span(), why));
    let name = ident.unraw().to_string().to_kebab_case();
    if !text.is_ascii() || validate_id(&name).is_err() {
        return refuse(format!(
            "`{text}` has no name in WIT: use the letters a to z and digits, a letter first"
        ));
    }
    let again = back(&name);
    if again != text {
        return refuse(format!(
            "`{text}` does not come back from WIT, where it is `{name}`: call it `{again}`"
        ));
    }
    Ok(name)
}
