//! Which types have agenthost's JSON form in Rust: those for which the derives of serde and schemars give it.
//!
//! Left out: the JSON form of the host, which covers all types.

use wit_bindgen_core::dealias;
use wit_bindgen_core::wit_parser::{Resolve, Type, TypeDefKind};

/// The extent to which the derives support a type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// Holds a handle, future or stream.
    Opaque,
    /// A value whose serde form is not agenthost's JSON form.
    Plain,
    /// A value whose serde form is agenthost's JSON form.
    Json,
}

/// Returns the extent to which the derives support this type.
pub(crate) fn form(resolve: &Resolve, ty: &Type) -> Form {
    let id = match ty {
        Type::Id(id) => *id,
        Type::ErrorContext => return Form::Opaque,
        _ => return Form::Json,
    };
    let all = |types: Vec<Option<&Type>>| {
        types
            .into_iter()
            .flatten()
            .map(|ty| form(resolve, ty))
            .min()
            .unwrap_or(Form::Json)
    };
    match &resolve.types[id].kind {
        TypeDefKind::Record(record) => all(record.fields.iter().map(|field| Some(&field.ty)).collect()),
        TypeDefKind::Variant(variant) => all(variant.cases.iter().map(|case| case.ty.as_ref()).collect()),
        TypeDefKind::Tuple(tuple) => all(tuple.types.iter().map(Some).collect()),
        TypeDefKind::Type(ty) | TypeDefKind::List(ty) => form(resolve, ty),
        // serde supports arrays of up to 32 elements.
        TypeDefKind::FixedLengthList(ty, length) if *length > 32 => form(resolve, ty).min(Form::Plain),
        TypeDefKind::FixedLengthList(ty, _) => form(resolve, ty),
        TypeDefKind::Option(ty) if is_option(resolve, ty) => form(resolve, ty).min(Form::Plain),
        TypeDefKind::Option(ty) => form(resolve, ty),
        TypeDefKind::Map(key, value) => all(vec![Some(key), Some(value)]).min(Form::Plain),
        TypeDefKind::Result(result) => all(vec![result.ok.as_ref(), result.err.as_ref()]).min(Form::Plain),
        TypeDefKind::Enum(_) | TypeDefKind::Flags(_) => Form::Json,
        TypeDefKind::Resource
        | TypeDefKind::Handle(_)
        | TypeDefKind::Future(_)
        | TypeDefKind::Stream(_)
        | TypeDefKind::Unknown => Form::Opaque,
    }
}

fn is_option(resolve: &Resolve, ty: &Type) -> bool {
    match ty {
        Type::Id(id) => matches!(resolve.types[dealias(resolve, *id)].kind, TypeDefKind::Option(_)),
        _ => false,
    }
}
