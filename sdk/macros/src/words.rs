//! Rust's names for WIT's, where they are words of Rust.
//!
//! The generator escapes the keywords that it knows with `_`: `type_`. Two are missing there: `gen`, a keyword since
//! edition 2024, and the case `self`, whose name in Rust would be `Self`. The generated text is changed before it is
//! parsed, so that both are escaped in the same way. Left out: a type `self`, which `agenthost build` refuses.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use wit_bindgen_core::name_package_module;
use wit_bindgen_core::wit_parser::{PackageId, Resolve};
use wit_bindgen_rust::to_rust_ident;

/// The keywords that the generator does not escape.
const UNESCAPED: &[&str] = &["gen"];

/// Returns the name in Rust of a field, a parameter, a function or a module.
pub(crate) fn rust_ident(name: &str) -> String {
    plain(to_rust_ident(name))
}

/// Returns the name in Rust of a package's module.
pub(crate) fn package_module(resolve: &Resolve, package: PackageId) -> String {
    plain(name_package_module(resolve, package))
}

/// Returns the name in Rust of a case.
pub(crate) fn rust_case(camel: String) -> String {
    match camel.as_str() {
        "Self" => "Self_".to_owned(),
        _ => camel,
    }
}

fn plain(ident: String) -> String {
    match UNESCAPED.contains(&ident.as_str()) {
        true => format!("{ident}_"),
        false => ident,
    }
}

/// Escapes the words in generated tokens.
pub(crate) fn escaped(tokens: TokenStream) -> TokenStream {
    words(tokens, false)
}

/// `cases` is whether these tokens are the cases of an enum.
fn words(tokens: TokenStream, cases: bool) -> TokenStream {
    // The number of colons directly before, and whether an enum's body comes next.
    let (mut colons, mut body) = (0, false);
    let escape = |token: TokenTree| {
        let (before, in_body) = (colons, body);
        colons = 0;
        match token {
            TokenTree::Ident(ident) => {
                let text = ident.to_string();
                body = text == "enum" || in_body;
                if text == "Self" && (cases || before == 2) {
                    return TokenTree::Ident(Ident::new("Self_", ident.span()));
                }
                match UNESCAPED.contains(&text.as_str()) {
                    true => TokenTree::Ident(Ident::new(&plain(text), ident.span())),
                    false => TokenTree::Ident(ident),
                }
            }
            TokenTree::Group(group) => {
                let of_enum = in_body && group.delimiter() == Delimiter::Brace;
                body = in_body && !of_enum;
                let mut inner = Group::new(group.delimiter(), words(group.stream(), of_enum));
                inner.set_span(group.span());
                TokenTree::Group(inner)
            }
            TokenTree::Punct(punct) => {
                colons = if punct.as_char() == ':' { before + 1 } else { 0 };
                TokenTree::Punct(punct)
            }
            literal => literal,
        }
    };
    tokens.into_iter().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(given: &str, expected: &str) {
        let tokens = escaped(given.parse().unwrap()).to_string();
        assert_eq!(tokens, expected.parse::<TokenStream>().unwrap().to_string());
    }

    #[test]
    fn only_names_of_wit_are_changed() {
        same(
            "pub struct Leaf { pub gen: String } impl Leaf { fn gen(self) -> Self { Self { gen: self.gen } } }",
            "pub struct Leaf { pub gen_: String } impl Leaf { fn gen_(self) -> Self { Self { gen_: self.gen_ } } }",
        );
        same(
            "enum Who { #[serde(rename = \"self\")] Self(u8), Other(Box<Self>) } fn is(who: Who) -> Self { Who::Self(1) }",
            "enum Who { #[serde(rename = \"self\")] Self_(u8), Other(Box<Self>) } fn is(who: Who) -> Self { Who::Self_(1) }",
        );
        same(
            "mod gen { use super::gen::Self; }",
            "mod gen_ { use super::gen_::Self_; }",
        );
        same(
            "f.debug_struct(\"gen\").field(\"gen\", r#try)",
            "f.debug_struct(\"gen\").field(\"gen\", r#try)",
        );
    }
}
