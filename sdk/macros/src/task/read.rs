//! Reads a module as the description of a task: the function `run`, and the structs and enums that its signature
//! reaches.
//!
//! Everything else in the module is ignored. All errors are reported together, each at its place.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, Error, Expr, ExprLit, Fields, Ident, Item, ItemEnum, ItemFn, ItemStruct, Lit, Meta, Result, Type,
};

use super::names;
use super::types::{Names, arguments, refuse};

/// The contents of the WIT.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) docs: Vec<String>,
    /// By interface: the WIT names of its types, each with the name under which it is used.
    pub(super) uses: BTreeMap<String, BTreeMap<String, String>>,
    /// In the module's order.
    pub(super) types: Vec<Named>,
    pub(super) run: Run,
}

#[derive(Debug)]
pub(super) struct Named {
    pub(super) ident: Ident,
    pub(super) name: String,
    pub(super) docs: Vec<String>,
    pub(super) kind: Kind,
    pub(super) members: Vec<Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Record,
    Variant,
    Enum,
}

/// A field or a case.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) ident: Ident,
    pub(super) name: String,
    pub(super) docs: Vec<String>,
    pub(super) ty: Option<String>,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) docs: Vec<String>,
    pub(super) asyncness: bool,
    pub(super) parameter: String,
    pub(super) input: String,
    pub(super) output: String,
}

/// The types of another interface. `module` is the name of its module in Rust, empty if its types are used without one.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) module: String,
    /// As in `demo:competitor/task@0.1.0`.
    pub(super) interface: String,
    /// Names in Rust, and in WIT.
    pub(super) types: BTreeMap<String, String>,
}

struct Reader<'m> {
    items: BTreeMap<String, &'m Item>,
    shared: &'m [Shared],
    uses: BTreeMap<String, BTreeMap<String, String>>,
    /// The types that are being read, the outermost first.
    open: Vec<String>,
    /// `None` if the type cannot be read.
    read: BTreeMap<String, Option<Named>>,
    errors: Vec<Error>,
}

/// Reads the items of the module `module`, whose attributes are `attributes`.
pub(super) fn read(module: &Ident, attributes: &[Attribute], items: &[Item], shared: &[Shared]) -> Result<Task> {
    let named = items
        .iter()
        .filter_map(|item| Some((type_ident(item)?.to_string(), item)));
    let mut reader = Reader {
        items: named.collect(),
        shared,
        uses: BTreeMap::new(),
        open: Vec::new(),
        read: BTreeMap::new(),
        errors: Vec::new(),
    };
    let run = items.iter().find_map(|item| match item {
        Item::Fn(function) if function.sig.ident == "run" => Some(function),
        _ => None,
    });
    let Some(run) = run else {
        return Err(Error::new(
            module.span(),
            "the module has no function `run`: add `async fn run(input: Input) -> Result<Output, Failure>` with types of your own",
        ));
    };
    let run = reader.run(run);
    let errors = reader.errors.into_iter().reduce(|mut all, error| {
        all.combine(error);
        all
    });
    let (Some(run), None) = (run, &errors) else {
        return Err(errors.unwrap_or_else(|| Error::new(module.span(), "the function `run` cannot be read")));
    };
    let mut types = Vec::new();
    for ident in items.iter().filter_map(type_ident) {
        types.extend(reader.read.remove(&ident.to_string()).flatten());
    }
    Ok(Task {
        docs: docs(attributes),
        uses: reader.uses,
        types,
        run,
    })
}

/// The name of an item that is a type.
fn type_ident(item: &Item) -> Option<&Ident> {
    match item {
        Item::Struct(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        _ => None,
    }
}

impl Names for Reader<'_> {
    fn defines(&self, name: &str) -> bool {
        self.items.contains_key(name)
    }

    /// Reads the type on first use.
    fn own(&mut self, ident: &Ident) -> Result<String> {
        let name = ident.to_string();
        if self.open.contains(&name) {
            return Err(Error::new(
                ident.span(),
                format!(
                    "`{name}` contains itself, and WIT has no recursive types: use a `Vec` of all entries that name each other \
                     by index"
                ),
            ));
        }
        let refuse = |why: &str| Error::new(ident.span(), format!("`{name}` {why}"));
        let item = match self.items.get(&name).copied() {
            Some(Item::Type(_)) => {
                return Err(refuse(
                    "is an alias, which WIT does not see: write the type itself, or make it a struct",
                ));
            }
            Some(item) => item,
            None => return Err(refuse("is not a type of this module")),
        };
        if !self.read.contains_key(&name) {
            self.open.push(name.clone());
            let named = match item {
                Item::Struct(item) => self.record(item),
                Item::Enum(item) => self.cases(item),
                _ => Err(refuse("is not a struct or an enum: make it one")),
            };
            self.open.pop();
            // Its errors are reported only once.
            let named = self.keep(named);
            self.read.insert(name.clone(), named);
        }
        Ok(names::of_type(ident).map_or(name, |name| names::escaped(&name)))
    }

    fn shared(&mut self, module: &str, name: &str) -> Option<String> {
        let of = self.shared.iter().find(|shared| shared.module == module)?;
        let wit = of.types.get(name)?.clone();
        if let Some(used) = self.uses.get(&of.interface).and_then(|uses| uses.get(&wit)) {
            return Some(names::escaped(used));
        }
        let own = self
            .items
            .values()
            .filter_map(|item| names::of_type(type_ident(item)?).ok());
        let used = self.uses.values().flat_map(|uses| uses.values().cloned());
        let taken: BTreeSet<String> = own.chain(used).collect();
        let prefixed = format!(
            "{}-{wit}",
            if module.is_empty() { "agenthost" } else { module }.replace('_', "-")
        );
        let local = if taken.contains(&wit) { prefixed } else { wit.clone() };
        self.uses
            .entry(of.interface.clone())
            .or_default()
            .insert(wit, local.clone());
        Some(names::escaped(&local))
    }
}

impl Reader<'_> {
    fn run(&mut self, function: &ItemFn) -> Option<Run> {
        let sig = &function.sig;
        self.refuse_cfg(&function.attrs);
        let plain = refuse_generics(&sig.generics);
        self.keep(plain)?;
        let mut inputs = sig.inputs.iter();
        let input = match (inputs.next(), inputs.next()) {
            (Some(syn::FnArg::Typed(input)), None) => input,
            (Some(syn::FnArg::Receiver(receiver)), _) => {
                return self.fail(refuse(
                    receiver,
                    "`run` is a plain function: it takes one input and no `self`",
                ));
            }
            (_, Some(second)) => {
                return self.fail(refuse(
                    second,
                    "`run` takes one input: put what it needs into one struct",
                ));
            }
            (None, _) => {
                return self.fail(Error::new(
                    sig.paren_token.span.join(),
                    "`run` takes one input, as in `run(input: Input)`",
                ));
            }
        };
        let returns = "`run` returns `Result<Output, Failure>`, or a `Result` with an error type of your own";
        let output = match &sig.output {
            syn::ReturnType::Type(_, ty) => ty,
            syn::ReturnType::Default => return self.fail(Error::new(sig.ident.span(), returns)),
        };
        let is_result = match output.as_ref() {
            Type::Path(path) => path
                .path
                .segments
                .last()
                .is_some_and(|last| last.ident == "Result" && arguments(&last.arguments).len() == 2),
            _ => false,
        };
        if !is_result {
            return self.fail(refuse(output, returns));
        }
        let (input_type, output) = (self.ty(&input.ty), self.ty(output));
        let (input_type, output) = (self.keep(input_type), self.keep(output));
        Some(Run {
            docs: docs(&function.attrs),
            asyncness: sig.asyncness.is_some(),
            parameter: names::of_parameter(&input.pat),
            input: input_type?,
            output: output?,
        })
    }

    fn record(&mut self, item: &ItemStruct) -> Result<Named> {
        self.refuse_cfg(&item.attrs);
        refuse_generics(&item.generics)?;
        let Fields::Named(fields) = &item.fields else {
            return Err(refuse(
                &item.ident,
                format!(
                    "`{}` has no named fields, and WIT's records have: write `struct {} {{ value: … }}`",
                    item.ident, item.ident
                ),
            ));
        };
        if fields.named.is_empty() {
            return Err(refuse(
                &item.ident,
                format!("`{}` has no field, and WIT's records have one at least", item.ident),
            ));
        }
        let mut members = Vec::new();
        for field in &fields.named {
            self.refuse_cfg(&field.attrs);
            let Some(ident) = &field.ident else { continue };
            let (name, ty) = (names::of_field(ident), self.ty(&field.ty));
            let (name, ty) = (self.keep(name), self.keep(ty));
            if let (Some(name), Some(ty)) = (name, ty) {
                members.push(member(ident, name, &field.attrs, Some(ty)));
            }
        }
        named(&item.ident, &item.attrs, Kind::Record, members)
    }

    fn cases(&mut self, item: &ItemEnum) -> Result<Named> {
        self.refuse_cfg(&item.attrs);
        refuse_generics(&item.generics)?;
        if item.variants.is_empty() {
            return Err(refuse(
                &item.ident,
                format!("`{}` has no case, and WIT's enums have one at least", item.ident),
            ));
        }
        let mut members = Vec::new();
        for variant in &item.variants {
            self.refuse_cfg(&variant.attrs);
            if let Some((_, value)) = &variant.discriminant {
                self.errors
                    .push(refuse(value, "WIT's enums have no numbers: leave the discriminant out"));
            }
            let ty = self.payload(&variant.ident, &variant.fields);
            let (name, ty) = (names::of_case(&variant.ident), self.keep(ty));
            if let (Some(name), Some(ty)) = (self.keep(name), ty) {
                members.push(member(&variant.ident, name, &variant.attrs, ty));
            }
        }
        let plain = members.iter().all(|member| member.ty.is_none());
        let kind = if plain { Kind::Enum } else { Kind::Variant };
        named(&item.ident, &item.attrs, kind, members)
    }

    fn payload(&mut self, case: &Ident, fields: &Fields) -> Result<Option<String>> {
        match fields {
            Fields::Unit => Ok(None),
            Fields::Named(fields) => Err(refuse(
                fields,
                format!(
                    "a case holds one value at most, and no fields: make them a struct, as in `{case}({case}Fields)`"
                ),
            )),
            Fields::Unnamed(fields) => {
                let mut types = fields.unnamed.iter();
                match (types.next(), types.next()) {
                    (Some(field), None) => self.ty(&field.ty).map(Some),
                    (None, _) => Err(refuse(
                        fields,
                        format!("a case without a value has no parentheses: write `{case}`"),
                    )),
                    (Some(_), Some(_)) => Err(refuse(
                        fields,
                        format!("a case holds one value at most: use a tuple, as in `{case}((…, …))`, or a struct"),
                    )),
                }
            }
        }
    }

    /// Refuses `cfg`, because a macro sees an item before `cfg` is evaluated.
    fn refuse_cfg(&mut self, attributes: &[Attribute]) {
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")) {
            self.errors
                .push(refuse(attribute, "a task is the same in every build: no `cfg` here"));
        }
    }

    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => self.fail(error),
        }
    }

    fn fail<T>(&mut self, error: Error) -> Option<T> {
        self.errors.push(error);
        None
    }
}

fn refuse_generics(generics: &syn::Generics) -> Result<()> {
    match generics.params.first() {
        Some(parameter) => Err(refuse(
            parameter,
            "WIT has no generic types: write one for each type that is needed",
        )),
        None => Ok(()),
    }
}

fn named(ident: &Ident, attributes: &[Attribute], kind: Kind, members: Vec<Member>) -> Result<Named> {
    Ok(Named {
        ident: ident.clone(),
        name: names::of_type(ident)?,
        docs: docs(attributes),
        kind,
        members,
    })
}

fn member(ident: &Ident, name: String, attributes: &[Attribute], ty: Option<String>) -> Member {
    Member {
        ident: ident.clone(),
        name,
        docs: docs(attributes),
        ty,
    }
}

/// The lines of a doc comment.
fn docs(attributes: &[Attribute]) -> Vec<String> {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let Meta::NameValue(value) = &attribute.meta else {
            continue;
        };
        let Expr::Lit(ExprLit {
            lit: Lit::Str(text), ..
        }) = &value.value
        else {
            continue;
        };
        let text = text.value();
        let unstarred = |line: &str| match line.trim_start().strip_prefix('*') {
            Some(rest) if text.contains('\n') => rest.to_owned(),
            _ => line.to_owned(),
        };
        let stripped = text.split('\n').map(unstarred);
        lines.extend(stripped.map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()));
    }
    while lines.first().is_some_and(String::is_empty) {
        lines.remove(0);
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}
