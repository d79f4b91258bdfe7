//! Checks whether two functions have the same types, and finds the first difference.
//!
//! Types are compared structurally, as a component's linker does: names of types do not matter, but names and order of
//! parameters, fields, cases and flags do. Two resources are equal if they have the same name.

use std::collections::HashSet;

use wit_parser::{Function, Handle, Resolve, Type, TypeDefKind, TypeId};

use super::Path;
use super::wit::{follow, strip, text};

/// Compares the function `a` with `b`.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_plugin::Plugin;
/// use agenthost_plugin::types::shape::same_shape;
///
/// # let (double, ask) = (double(), ask());
/// let (double, ask) = (Plugin::read(&double)?, Plugin::read(&ask)?);
/// assert_eq!(same_shape(&double.resolve, &double.run, &double.resolve, &double.run), Ok(()));
/// assert!(same_shape(&double.resolve, &double.run, &ask.resolve, &ask.run).is_err());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns the first difference, with the types on both sides: `report.findings[].claim: string here, u32 there`. A
/// parameter is referred to by its name; the payload of a `result` by the name of its type in `here`, or else `ok` or
/// `err`; any other result is `output`.
pub fn same_shape(here: &Resolve, a: &Function, there: &Resolve, b: &Function) -> Result<(), String> {
    if a.kind.is_async() != b.kind.is_async() {
        let word = |is_async| if is_async { "async func" } else { "func" };
        let (a_word, b_word) = (word(a.kind.is_async()), word(b.kind.is_async()));
        return Err(format!("{}: {a_word} here, {b_word} there", a.name));
    }
    let mut comparison = Comparison {
        here,
        there,
        equal: HashSet::new(),
    };
    let names = |function: &'_ Function| {
        function
            .params
            .iter()
            .map(|param| param.name.clone())
            .collect::<Vec<_>>()
    };
    same_names(&names(a), &names(b), "parameter", &Path::root(&a.name))?;
    for (a, b) in a.params.iter().zip(&b.params) {
        comparison.types(&a.ty, &b.ty, &Path::root(&a.name))?;
    }
    comparison.output(a.result, b.result)
}

struct Comparison<'r> {
    here: &'r Resolve,
    there: &'r Resolve,
    /// The pairs that are equal or being compared, so that a type used in many places is compared once.
    equal: HashSet<(TypeId, TypeId)>,
}

impl Comparison<'_> {
    fn output(&mut self, a: Option<Type>, b: Option<Type>) -> Result<(), String> {
        let (Some(left), Some(right)) = (a, b) else {
            return self.optional(a, b, "nothing", &Path::root("output"));
        };
        let (Some(TypeDefKind::Result(x)), Some(TypeDefKind::Result(y))) =
            (kind(self.here, &left), kind(self.there, &right))
        else {
            return self.types(&left, &right, &Path::root("output"));
        };
        let ok = payload_name(self.here, x.ok, "ok");
        self.optional(x.ok, y.ok, "no payload", &Path::root(&ok))?;
        let err = payload_name(self.here, x.err, "err");
        self.optional(x.err, y.err, "no payload", &Path::root(&err))
    }

    fn optional(&mut self, a: Option<Type>, b: Option<Type>, none: &str, at: &Path<'_>) -> Result<(), String> {
        match (a, b) {
            (None, None) => Ok(()),
            (Some(a), Some(b)) => self.types(&a, &b, at),
            (Some(a), None) => Err(format!("{at}: {} here, {none} there", words(self.here, &a))),
            (None, Some(b)) => Err(format!("{at}: {none} here, {} there", words(self.there, &b))),
        }
    }

    fn types(&mut self, a: &Type, b: &Type, at: &Path<'_>) -> Result<(), String> {
        at.check_depth().map_err(|error| error.to_string())?;
        let differ = || {
            Err(format!(
                "{at}: {} here, {} there",
                words(self.here, a),
                words(self.there, b)
            ))
        };
        let (x, y) = match (strip(self.here, a), strip(self.there, b)) {
            (Type::Id(x), Type::Id(y)) => (x, y),
            (x, y) if x == y => return Ok(()),
            _ => return differ(),
        };
        if !self.equal.insert((x, y)) {
            return Ok(());
        }
        let (Some(x), Some(y)) = (self.here.types.get(x), self.there.types.get(y)) else {
            return differ();
        };
        if std::mem::discriminant(&x.kind) == std::mem::discriminant(&y.kind) {
            let (what, members) = members(&x.kind);
            same_names(&members, &self::members(&y.kind).1, what, at)?;
        }
        match (&x.kind, &y.kind) {
            (TypeDefKind::Record(x), TypeDefKind::Record(y)) => {
                for (x, y) in x.fields.iter().zip(&y.fields) {
                    self.types(&x.ty, &y.ty, &at.name(&x.name))?;
                }
                Ok(())
            }
            (TypeDefKind::Variant(x), TypeDefKind::Variant(y)) => {
                for (x, y) in x.cases.iter().zip(&y.cases) {
                    self.optional(x.ty, y.ty, "no payload", &at.name(&x.name))?;
                }
                Ok(())
            }
            (TypeDefKind::Enum(_), TypeDefKind::Enum(_)) | (TypeDefKind::Flags(_), TypeDefKind::Flags(_)) => Ok(()),
            (TypeDefKind::Tuple(x), TypeDefKind::Tuple(y)) if x.types.len() == y.types.len() => {
                for (index, (x, y)) in x.types.iter().zip(&y.types).enumerate() {
                    self.types(x, y, &at.index(index))?;
                }
                Ok(())
            }
            (TypeDefKind::List(x), TypeDefKind::List(y)) => self.types(x, y, &at.each()),
            (TypeDefKind::FixedLengthList(x, m), TypeDefKind::FixedLengthList(y, n)) if m == n => {
                self.types(x, y, &at.each())
            }
            (TypeDefKind::Map(x_key, x_value), TypeDefKind::Map(y_key, y_value)) => {
                let at = at.each();
                self.types(x_key, y_key, &at.index(0))?;
                self.types(x_value, y_value, &at.index(1))
            }
            (TypeDefKind::Option(x), TypeDefKind::Option(y)) => self.types(x, y, &at.inside()),
            (TypeDefKind::Result(x), TypeDefKind::Result(y)) => {
                self.optional(x.ok, y.ok, "no payload", &at.name("ok"))?;
                self.optional(x.err, y.err, "no payload", &at.name("err"))
            }
            (TypeDefKind::Future(x), TypeDefKind::Future(y)) | (TypeDefKind::Stream(x), TypeDefKind::Stream(y)) => {
                self.optional(*x, *y, "nothing", &at.each())
            }
            (TypeDefKind::Handle(Handle::Own(x)), TypeDefKind::Handle(Handle::Own(y)))
            | (TypeDefKind::Handle(Handle::Borrow(x)), TypeDefKind::Handle(Handle::Borrow(y))) => {
                self.types(&Type::Id(*x), &Type::Id(*y), at)
            }
            (TypeDefKind::Resource, TypeDefKind::Resource) if x.name == y.name => Ok(()),
            _ => differ(),
        }
    }
}

/// The term for the named parts of a type, and their names.
fn members(kind: &TypeDefKind) -> (&'static str, Vec<&str>) {
    match kind {
        TypeDefKind::Record(record) => ("field", record.fields.iter().map(|field| field.name.as_str()).collect()),
        TypeDefKind::Variant(variant) => ("case", variant.cases.iter().map(|case| case.name.as_str()).collect()),
        TypeDefKind::Enum(cases) => ("case", cases.cases.iter().map(|case| case.name.as_str()).collect()),
        TypeDefKind::Flags(flags) => ("flag", flags.flags.iter().map(|flag| flag.name.as_str()).collect()),
        _ => ("part", Vec::new()),
    }
}

fn same_names(a: &[impl AsRef<str>], b: &[impl AsRef<str>], what: &str, at: &Path<'_>) -> Result<(), String> {
    for index in 0..a.len().max(b.len()) {
        let number = index + 1;
        match (a.get(index).map(AsRef::as_ref), b.get(index).map(AsRef::as_ref)) {
            (Some(a), Some(b)) if a != b => return Err(format!("{at}: {what} {number} is `{a}` here, `{b}` there")),
            (Some(a), None) => return Err(format!("{at}: {what} `{a}` here, no {what} {number} there")),
            (None, Some(b)) => return Err(format!("{at}: no {what} {number} here, {what} `{b}` there")),
            _ => {}
        }
    }
    Ok(())
}

fn kind<'r>(resolve: &'r Resolve, ty: &Type) -> Option<&'r TypeDefKind> {
    match strip(resolve, ty) {
        Type::Id(id) => Some(&resolve.types.get(id)?.kind),
        _ => None,
    }
}

fn payload_name(resolve: &Resolve, ty: Option<Type>, otherwise: &str) -> String {
    let named = ty.and_then(|ty| match follow(resolve, &ty) {
        Type::Id(id) => resolve.types.get(id)?.name.clone(),
        _ => None,
    });
    named.unwrap_or_else(|| otherwise.to_owned())
}

/// Describes a type: `string`, `list<finding>`, `record finding`.
fn words(resolve: &Resolve, ty: &Type) -> String {
    let mut name = |id| match resolve.types.get(id).and_then(|def| def.name.as_deref()) {
        Some(name) => name.to_owned(),
        None => "_".to_owned(),
    };
    let text = text(resolve, &strip(resolve, ty), &mut name);
    match kind(resolve, ty) {
        Some(
            kind @ (TypeDefKind::Record(_)
            | TypeDefKind::Variant(_)
            | TypeDefKind::Enum(_)
            | TypeDefKind::Flags(_)
            | TypeDefKind::Resource),
        ) => format!("{} {text}", kind.as_str()),
        _ => text,
    }
}
