//! Helpers for the modules that read a [`Resolve`]: decoding, aliases, names.

use std::collections::{HashMap, HashSet};

use wit_component::DecodedWasm;
use wit_parser::{Docs, Handle, Resolve, Type, TypeDefKind, TypeId, TypeOwner, WorldId};

use crate::bytes;
use crate::error::ComponentError;

/// Decodes the world of a compiled component: its imports and exports with their types, but no doc comments, which a
/// component does not keep.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let component = double();
/// let (resolve, world) = agenthost_plugin::types::decode(&component)?;
/// let exports: Vec<_> = resolve.worlds[world].exports.keys().map(|key| resolve.name_world_key(key)).collect();
/// assert_eq!(exports, ["demo:double/task@0.1.0"]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns a plugin error if the bytes are not a valid component: a core module, a WIT package, or not Wasm at all.
pub fn decode(component: &[u8]) -> Result<(Resolve, WorldId), ComponentError> {
    // A core module decodes too, as a component without imports and exports.
    if wasmparser::Parser::is_core_wasm(component) {
        return Err(bytes::core_module(component));
    }
    match wit_component::decode(component) {
        Ok(DecodedWasm::Component(resolve, world)) => Ok((resolve, world)),
        Ok(DecodedWasm::WitPackage(..)) => Err(ComponentError::WitPackage),
        Err(error) => Err(ComponentError::broken(error.root_cause())),
    }
}

/// Resolves a chain of undocumented aliases (`use`, `type a = b`).
pub(super) fn follow(resolve: &Resolve, ty: &Type) -> Type {
    let mut ty = *ty;
    while let Type::Id(id) = ty
        && let Some(def) = resolve.types.get(id)
        && let TypeDefKind::Type(target @ Type::Id(_)) = def.kind
        && doc_lines(&def.docs).next().is_none()
    {
        ty = target;
    }
    ty
}

/// Resolves all aliases.
pub(super) fn strip(resolve: &Resolve, ty: &Type) -> Type {
    let mut ty = *ty;
    while let Type::Id(id) = ty
        && let Some(def) = resolve.types.get(id)
        && let TypeDefKind::Type(target) = def.kind
    {
        ty = target;
    }
    ty
}

pub(super) fn is_option(resolve: &Resolve, ty: &Type) -> bool {
    let Type::Id(id) = strip(resolve, ty) else {
        return false;
    };
    matches!(resolve.types.get(id), Some(def) if matches!(def.kind, TypeDefKind::Option(_)))
}

/// The lines of a doc comment; empty if there are none.
pub(super) fn doc_lines(docs: &Docs) -> impl Iterator<Item = &str> {
    docs.contents.as_deref().unwrap_or_default().trim().lines()
}

/// Formats a type as WIT text, calling `name` for named types.
pub(super) fn text(resolve: &Resolve, ty: &Type, name: &mut impl FnMut(TypeId) -> String) -> String {
    let id = match follow(resolve, ty) {
        Type::Bool => return "bool".to_owned(),
        Type::U8 => return "u8".to_owned(),
        Type::U16 => return "u16".to_owned(),
        Type::U32 => return "u32".to_owned(),
        Type::U64 => return "u64".to_owned(),
        Type::S8 => return "s8".to_owned(),
        Type::S16 => return "s16".to_owned(),
        Type::S32 => return "s32".to_owned(),
        Type::S64 => return "s64".to_owned(),
        Type::F32 => return "f32".to_owned(),
        Type::F64 => return "f64".to_owned(),
        Type::Char => return "char".to_owned(),
        Type::String => return "string".to_owned(),
        Type::ErrorContext => return "error-context".to_owned(),
        Type::Id(id) => id,
    };
    match resolve.types.get(id) {
        Some(def) if def.name.is_none() => kind_text(resolve, &def.kind, name),
        _ => name(id),
    }
}

/// Formats the definition of a type that needs no block.
pub(super) fn kind_text(resolve: &Resolve, kind: &TypeDefKind, name: &mut impl FnMut(TypeId) -> String) -> String {
    let mut of = |ty: &Type| text(resolve, ty, name);
    match kind {
        TypeDefKind::Type(ty) => of(ty),
        TypeDefKind::Option(ty) => format!("option<{}>", of(ty)),
        TypeDefKind::List(ty) => format!("list<{}>", of(ty)),
        TypeDefKind::FixedLengthList(ty, count) => format!("list<{}, {count}>", of(ty)),
        TypeDefKind::Map(key, value) => format!("map<{}, {}>", of(key), of(value)),
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<_> = tuple.types.iter().map(of).collect();
            format!("tuple<{}>", types.join(", "))
        }
        TypeDefKind::Result(result) => match (&result.ok, &result.err) {
            (Some(ok), Some(err)) => format!("result<{}, {}>", of(ok), of(err)),
            (Some(ok), None) => format!("result<{}>", of(ok)),
            (None, Some(err)) => format!("result<_, {}>", of(err)),
            (None, None) => "result".to_owned(),
        },
        TypeDefKind::Future(Some(ty)) => format!("future<{}>", of(ty)),
        TypeDefKind::Stream(Some(ty)) => format!("stream<{}>", of(ty)),
        TypeDefKind::Handle(Handle::Own(id)) => of(&Type::Id(*id)),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", of(&Type::Id(*id))),
        TypeDefKind::Future(None)
        | TypeDefKind::Stream(None)
        | TypeDefKind::Record(_)
        | TypeDefKind::Variant(_)
        | TypeDefKind::Enum(_)
        | TypeDefKind::Flags(_)
        | TypeDefKind::Resource
        | TypeDefKind::Unknown => kind.as_str().to_owned(),
    }
}

/// Assigns a unique name to each named type, even if different interfaces use the same name.
#[derive(Default)]
pub(super) struct Names {
    given: HashMap<TypeId, String>,
    taken: HashSet<String>,
}

impl Names {
    /// Returns the name of a type, and whether it is requested for the first time. The name is the type's own, or with
    /// its interface's name in front (`types.failure`) if that is taken, or with a number appended.
    pub(super) fn of(&mut self, resolve: &Resolve, id: TypeId) -> (String, bool) {
        if let Some(name) = self.given.get(&id) {
            return (name.clone(), false);
        }
        let own = resolve.types.get(id).and_then(|def| def.name.as_deref()).unwrap_or("_");
        let mut name = own.to_owned();
        if self.taken.contains(&name) {
            name = format!("{}.{own}", owner(resolve, id).unwrap_or("_"));
        }
        let qualified = name.clone();
        let mut number = 2;
        while self.taken.contains(&name) {
            name = format!("{qualified}-{number}");
            number += 1;
        }
        self.taken.insert(name.clone());
        self.given.insert(id, name.clone());
        (name, true)
    }
}

fn owner(resolve: &Resolve, id: TypeId) -> Option<&str> {
    match resolve.types.get(id)?.owner {
        TypeOwner::Interface(id) => resolve.interfaces.get(id)?.name.as_deref(),
        TypeOwner::World(id) => Some(resolve.worlds.get(id)?.name.as_str()),
        TypeOwner::None => None,
    }
}
