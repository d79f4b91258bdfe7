//! Converts Rust types to WIT, with a suggestion for each type that WIT does not have.
//!
//! Types are read as written: a macro sees names, not their definitions. Hence no aliases, and no types from elsewhere
//! except those of the SDK and of imported tasks.

use quote::ToTokens;
use syn::{Error, GenericArgument, Ident, PathArguments, Result, Type};

const SCALARS: &[(&str, &str)] = &[
    ("String", "string"),
    ("bool", "bool"),
    ("char", "char"),
    ("f32", "f32"),
    ("f64", "f64"),
    ("i16", "s16"),
    ("i32", "s32"),
    ("i64", "s64"),
    ("i8", "s8"),
    ("u16", "u16"),
    ("u32", "u32"),
    ("u64", "u64"),
    ("u8", "u8"),
];

/// The types that have a name, as far as the reader of the module knows them; and the conversion, which asks for them.
pub(super) trait Names {
    /// Returns whether the module defines a type of this name.
    fn defines(&self, name: &str) -> bool;

    /// Reads a type of the module, and returns its name in WIT.
    fn own(&mut self, ident: &Ident) -> Result<String>;

    /// Returns the name in this interface of a type of another interface.
    fn shared(&mut self, module: &str, name: &str) -> Option<String>;

    /// Converts a type to WIT.
    fn ty(&mut self, ty: &Type) -> Result<String> {
        match ty {
            Type::Paren(inner) => self.ty(&inner.elem),
            Type::Group(inner) => self.ty(&inner.elem),
            Type::Tuple(tuple) if tuple.elems.is_empty() => Err(refuse(
                ty,
                "`()` is a value in WIT only inside a `Result`: leave it out, or use `bool`",
            )),
            Type::Tuple(tuple) => {
                let types: Vec<_> = tuple.elems.iter().map(|ty| self.ty(ty)).collect::<Result<_>>()?;
                Ok(format!("tuple<{}>", types.join(", ")))
            }
            Type::Path(path) if path.qself.is_none() => self.path(ty, &path.path),
            other => Err(refuse(other, unnamed(other))),
        }
    }

    fn path(&mut self, ty: &Type, path: &syn::Path) -> Result<String> {
        let Some(last) = path.segments.last() else {
            return Err(refuse(ty, "a type is expected here"));
        };
        let parents: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let parents: Vec<&str> = parents
            .iter()
            .map(String::as_str)
            .take(parents.len().saturating_sub(1))
            .collect();
        let arguments = arguments(&last.arguments);
        let name = last.ident.to_string();
        match parents.as_slice() {
            // Generic arguments need no check: the definition of a type with parameters is refused.
            [] | ["self"] if self.defines(&name) => self.own(&last.ident),
            [] | ["std" | "core" | "alloc", ..] => match (self.standard(&name, &arguments), parents.as_slice()) {
                (Some(found), _) => found,
                (None, []) => match self.shared("", &name) {
                    Some(found) => Ok(found),
                    None => Err(refuse(ty, unknown(&name, &arguments))),
                },
                (None, _) => Err(refuse(ty, unknown(&name, &arguments))),
            },
            // `llm::Message`, `competitor::Report`, `agenthost_sdk::Failure`
            [.., module] => {
                let module = if ["agenthost_sdk", "prelude"].contains(module) {
                    ""
                } else {
                    module
                };
                self.shared(module, &name)
                    .ok_or_else(|| refuse(ty, unknown(&compact(path), &arguments)))
            }
        }
    }

    /// Converts a standard type of Rust; `None` if WIT does not have it.
    fn standard(&mut self, name: &str, arguments: &[&Type]) -> Option<Result<String>> {
        if let Some((_, name)) = SCALARS.iter().find(|(known, _)| *known == name) {
            return Some(Ok((*name).to_owned()));
        }
        let found = match (name, arguments) {
            ("Option", [inner]) => self.ty(inner).map(|inner| format!("option<{inner}>")),
            ("Vec", [inner]) => self.ty(inner).map(|inner| format!("list<{inner}>")),
            ("Result", [ok, error]) => self.result(ok, error),
            _ => return None,
        };
        Some(found)
    }

    fn result(&mut self, ok: &Type, error: &Type) -> Result<String> {
        let mut side = |ty: &Type| match ty {
            Type::Tuple(tuple) if tuple.elems.is_empty() => Ok(None),
            ty => self.ty(ty).map(Some),
        };
        Ok(match (side(ok)?, side(error)?) {
            (Some(ok), Some(error)) => format!("result<{ok}, {error}>"),
            (Some(ok), None) => format!("result<{ok}>"),
            (None, Some(error)) => format!("result<_, {error}>"),
            (None, None) => "result".to_owned(),
        })
    }
}

/// The types among a path's arguments.
pub(super) fn arguments(arguments: &PathArguments) -> Vec<&Type> {
    match arguments {
        PathArguments::AngleBracketed(arguments) => arguments
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn refuse(tokens: impl ToTokens, why: impl std::fmt::Display) -> Error {
    Error::new_spanned(tokens, why)
}

/// The reason why a type that is not a name has no form in WIT.
fn unnamed(ty: &Type) -> String {
    let (what, instead) = match ty {
        Type::Reference(reference) => match reference.elem.as_ref() {
            Type::Path(path) if path.path.is_ident("str") => ("a `&str`".to_owned(), "`String`".to_owned()),
            Type::Slice(slice) => ("a slice".to_owned(), format!("`Vec<{}>`", compact(&slice.elem))),
            inner => ("a reference".to_owned(), format!("`{}`", compact(inner))),
        },
        Type::Array(array) => ("an array".to_owned(), format!("`Vec<{}>`", compact(&array.elem))),
        Type::Slice(slice) => ("a slice".to_owned(), format!("`Vec<{}>`", compact(&slice.elem))),
        Type::BareFn(_) => (
            "a function".to_owned(),
            "data, such as an enum of what can be done".to_owned(),
        ),
        Type::TraitObject(_) | Type::ImplTrait(_) => (
            "a trait's type".to_owned(),
            "an enum of the types that it can be".to_owned(),
        ),
        Type::Ptr(_) => ("a pointer".to_owned(), "the value itself".to_owned()),
        _ => (
            "this type".to_owned(),
            "a struct, an enum or one of Rust's plain types by its name".to_owned(),
        ),
    };
    format!("a task cannot take or give {what}: use {instead}")
}

/// The reason why a named type has no form in WIT.
fn unknown(name: &str, arguments: &[&Type]) -> String {
    let last = name.rsplit("::").next().unwrap_or(name);
    if let ("Box" | "Rc" | "Arc", [object @ Type::TraitObject(_)]) = (last, arguments) {
        return unnamed(object);
    }
    let types: Vec<String> = arguments.iter().map(compact).collect();
    let instead = match (last, types.as_slice()) {
        ("HashMap" | "BTreeMap" | "IndexMap", [key, value, ..]) => format!("`Vec<({key}, {value})>`"),
        ("HashMap" | "BTreeMap" | "IndexMap", _) => "`Vec<(K, V)>`".to_owned(),
        ("HashSet" | "BTreeSet" | "IndexSet" | "VecDeque" | "LinkedList" | "BinaryHeap", [item, ..]) => {
            format!("`Vec<{item}>`")
        }
        ("Box" | "Rc" | "Arc" | "Cow" | "RefCell" | "Cell" | "Mutex", [inner]) => format!("`{inner}`"),
        ("usize", _) => "`u32` or `u64`".to_owned(),
        ("isize", _) => "`i32` or `i64`".to_owned(),
        ("u128" | "i128", _) => "64 bits, or a `String` of digits".to_owned(),
        ("str" | "Path" | "PathBuf" | "OsStr" | "OsString" | "CString", _) => "`String`".to_owned(),
        ("Duration", _) => "`u64`, with the unit in the name, as in `wait_ms`".to_owned(),
        ("Instant" | "SystemTime", _) => "`u64`, with the unit in the name, as in `unix_ms`".to_owned(),
        ("Value", _) => "`String` with the JSON text".to_owned(),
        ("Self", _) => "the type's name".to_owned(),
        _ => {
            return format!(
                "`{name}` is not a type that a task can take or return: define a struct or enum of that name in this module (an alias \
                 or a `use` is not enough), or use a plain type of Rust, `Failure`, `Limit`, or a type of an imported task, \
                 as in `competitor::Report`"
            );
        }
    };
    let generic = if types.is_empty() {
        String::new()
    } else {
        format!("<{}>", types.join(", "))
    };
    format!("a task cannot take or give `{name}{generic}`: use {instead}")
}

/// Formats Rust as people write it, because tokens print with a space between any two.
fn compact(tokens: &impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        let apart = word(out.chars().last()) && word(rest.peek().copied());
        match next {
            ' ' if !apart => {}
            ',' => out.push_str(", "),
            other => out.push(other),
        }
    }
    out
}
