//! Rust bindings for a world: wit-bindgen-rust's output, extended for authors of plugins.
//!
//! The additions are derives for agenthost's JSON form, which the generator takes as attributes, and three changes to its
//! output: JSON for flags, imports that a test's host answers, and imported tasks whose futures have a name. The changes
//! depend on the generator's module layout, hence its pinned version. Left out: any knowledge of the call site, which is `plugin`'s.

use anyhow::{Context as _, Result, anyhow};
use heck::{ToShoutySnakeCase as _, ToUpperCamelCase as _};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use wit_bindgen_core::wit_parser::{
    Flags, FunctionKind, InterfaceId, Resolve, Type, TypeDefKind, TypeId, WorldId, WorldItem, WorldKey,
};
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::{Opts, WithOption};

use crate::form::{Form, form};
use crate::source::is_contract;
use crate::sub_task::SubTask;
use crate::words::{escaped, package_module, rust_ident};

/// The path of the SDK's bindings of `agenthost:plugin`.
const SDK_BINDINGS: &str = "::agenthost_sdk::bindings::agenthost::plugin";
const RUNTIME: &str = "::agenthost_sdk::__rt::wit_bindgen::rt";
const JSON_DERIVES: &str = "#[derive(::agenthost_sdk::serde::Serialize, ::agenthost_sdk::serde::Deserialize, \
                            ::agenthost_sdk::schemars::JsonSchema)]";

/// Generates the world. With `own`, which only the SDK uses, the shared package's interfaces are generated too.
pub(crate) fn generate(resolve: &mut Resolve, world: WorldId, own: bool) -> Result<syn::File> {
    let mut opts = Opts {
        runtime_path: Some(RUNTIME.to_owned()),
        bitflags_path: Some(format!("{RUNTIME}::bitflags")),
        generate_all: true,
        generate_unused_types: true,
        ..Opts::default()
    };
    let (mut flags, mut imports) = (Vec::new(), Vec::new());
    for (id, exported) in interfaces(resolve, world) {
        if let (false, Some(path)) = (own, sdk_path(resolve, id)) {
            opts.with
                .push((resolve.name_world_key(&WorldKey::Interface(id)), WithOption::Path(path)));
            continue;
        }
        let module = module_path(resolve, id, exported)?;
        attributes(resolve, id, &mut opts);
        flags.extend(flag_impls(resolve, id, &module));
        if !exported {
            imports.extend(imported(resolve, id, &module));
        }
    }

    let mut files = Files::default();
    opts.build().generate(resolve, world, &mut files)?;
    let (_, text) = files.iter().next().context("the generator gave no file")?;
    let tokens: TokenStream = std::str::from_utf8(text)?
        .parse()
        .map_err(|error| anyhow!("the generator gave no Rust: {error}"))?;
    let mut file = syn::parse2(escaped(tokens)).context("the generator gave no Rust")?;
    for (module, item) in flags {
        module_items(&mut file, &module)?.push(item);
    }
    if own {
        without_error_texts(&mut file.items);
    }
    for import in imports {
        let items = module_items(&mut file, &import.module)?;
        answer_natively(items, &import, own);
        if let Some(sub_task) = &import.sub_task {
            sub_task.name_future(items);
        }
    }
    Ok(file)
}

/// Removes the texts of errors, which the generator adds to some and the SDK has for all.
fn without_error_texts(items: &mut Vec<syn::Item>) {
    items.retain_mut(|item| match item {
        syn::Item::Mod(module) => {
            if let Some((_, items)) = &mut module.content {
                without_error_texts(items);
            }
            true
        }
        syn::Item::Impl(found) => {
            let name = found.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
            !name.is_some_and(|name| name.ident == "Display" || name.ident == "Error")
        }
        _ => true,
    });
}

/// The interfaces of a world, each with whether the world exports it.
fn interfaces(resolve: &Resolve, world: WorldId) -> Vec<(InterfaceId, bool)> {
    let world = &resolve.worlds[world];
    let imports = world.imports.values().map(|item| (item, false));
    imports
        .chain(world.exports.values().map(|item| (item, true)))
        .filter_map(|(item, exported)| match item {
            WorldItem::Interface { id, .. } => Some((*id, exported)),
            _ => None,
        })
        .collect()
}

/// The SDK's module for an interface, if the interface is of the shared package.
pub(crate) fn sdk_path(resolve: &Resolve, id: InterfaceId) -> Option<String> {
    let interface = &resolve.interfaces[id];
    let package = &resolve.packages[interface.package?].name;
    is_contract(package).then(|| {
        format!(
            "{SDK_BINDINGS}::{}",
            rust_ident(interface.name.as_deref().unwrap_or(""))
        )
    })
}

/// The path of the module in which the generator puts an interface.
pub(crate) fn module_path(resolve: &Resolve, id: InterfaceId, exported: bool) -> Result<Vec<String>> {
    let interface = &resolve.interfaces[id];
    let (Some(package), Some(name)) = (interface.package, &interface.name) else {
        return Err(anyhow!("an interface without a name"));
    };
    let namespace = rust_ident(&resolve.packages[package].name.namespace);
    let mut path = if exported {
        vec!["exports".to_owned()]
    } else {
        Vec::new()
    };
    path.extend([namespace, package_module(resolve, package), rust_ident(name)]);
    Ok(path)
}

/// The items of the module at this path.
pub(crate) fn module_items<'a>(file: &'a mut syn::File, path: &[String]) -> Result<&'a mut Vec<syn::Item>> {
    let mut items = &mut file.items;
    for name in path {
        items = items
            .iter_mut()
            .find_map(|item| match item {
                syn::Item::Mod(module) if module.ident == name => module.content.as_mut().map(|(_, items)| items),
                _ => None,
            })
            .with_context(|| format!("the generator gave no module `{}`", path.join("::")))?;
    }
    Ok(items)
}

/// The name that the generator gives a type.
pub(crate) fn type_ident(name: &str) -> String {
    if name == "guest" {
        "Guest_".to_owned()
    } else {
        name.to_upper_camel_case()
    }
}

fn attributes(resolve: &Resolve, id: InterfaceId, opts: &mut Opts) {
    let Some(interface) = resolve.id_of(id) else { return };
    for (name, ty) in &resolve.interfaces[id].types {
        let selector = format!("{interface}/{name}");
        let (members, record): (Vec<&str>, bool) = match &resolve.types[*ty].kind {
            TypeDefKind::Record(record) => (record.fields.iter().map(|field| field.name.as_str()).collect(), true),
            TypeDefKind::Variant(variant) => (variant.cases.iter().map(|case| case.name.as_str()).collect(), false),
            TypeDefKind::Enum(cases) => (cases.cases.iter().map(|case| case.name.as_str()).collect(), false),
            _ => continue,
        };
        let form = form(resolve, &Type::Id(*ty));
        let mut add = |attribute: &str| {
            opts.additional_type_attributes
                .push((selector.clone(), attribute.to_owned()))
        };
        if form >= Form::Plain && !matches!(resolve.types[*ty].kind, TypeDefKind::Enum(_)) {
            add("#[derive(PartialEq)]");
        }
        if form == Form::Json {
            add(JSON_DERIVES);
            add("#[serde(crate = \"::agenthost_sdk::serde\")]");
            add("#[schemars(crate = \"::agenthost_sdk::schemars\")]");
            if record {
                add("#[serde(deny_unknown_fields)]");
            }
            for member in members {
                let attribute = format!("#[serde(rename = {member:?})]");
                opts.additional_member_attributes
                    .push((format!("{selector}.{member}"), attribute));
            }
        }
    }
}

/// The serde and schemars implementations for flags, which the generator's attributes do not reach.
fn flag_impls(resolve: &Resolve, id: InterfaceId, module: &[String]) -> Vec<(Vec<String>, syn::Item)> {
    let item = |name: &str, ty: TypeId, flags: &Flags| {
        let ident = format_ident!("{}", type_ident(name));
        let consts = flags
            .flags
            .iter()
            .map(|flag| format_ident!("{}", flag.name.to_shouty_snake_case()));
        let names = flags.flags.iter().map(|flag| &flag.name);
        let docs = resolve.types[ty].docs.contents.as_deref().unwrap_or("");
        syn::parse2(quote! {
            ::agenthost_sdk::__flags_json! { #ident, #name, #docs, #(#consts = #names),* }
        })
    };
    let types = &resolve.interfaces[id].types;
    types
        .iter()
        .filter_map(|(name, ty)| match &resolve.types[*ty].kind {
            TypeDefKind::Flags(flags) => Some((module.to_vec(), item(name, *ty, flags).ok()?)),
            _ => None,
        })
        .collect()
}

/// An imported function.
struct Import {
    /// The modules in which the generator puts it.
    module: Vec<String>,
    ident: String,
    /// As in `demo:competitor/task@0.1.0#run`.
    name: String,
    /// As in `demo:competitor@0.1.0`.
    package: String,
    /// Set if a model can start the task.
    sub_task: Option<SubTask>,
}

fn imported(resolve: &Resolve, id: InterfaceId, module: &[String]) -> Vec<Import> {
    let interface = &resolve.interfaces[id];
    let qualified = resolve.id_of(id).unwrap_or_default();
    let package = interface
        .package
        .map(|package| resolve.packages[package].name.to_string());
    let functions = interface.functions.values();
    functions
        .filter(|function| {
            matches!(
                function.kind,
                FunctionKind::Freestanding | FunctionKind::AsyncFreestanding
            )
        })
        .map(|function| Import {
            module: module.to_vec(),
            ident: rust_ident(&function.name),
            name: format!("{qualified}#{}", function.name),
            package: package.clone().unwrap_or_default(),
            sub_task: SubTask::of(resolve, id, function),
        })
        .collect()
}

/// Makes the SDK answer a call of this function natively, without a host.
fn answer_natively(items: &mut [syn::Item], import: &Import, own: bool) {
    let found = items.iter_mut().find_map(|item| match item {
        syn::Item::Fn(found) if found.sig.ident == import.ident => Some(found),
        _ => None,
    });
    let Some(found) = found else { return };
    let answer = if own {
        own_answer(&found.sig)
    } else {
        task_answer(&found.sig, import)
    };
    let answer = syn::parse_quote! {
        #[cfg(not(target_family = "wasm"))]
        return #answer;
    };
    found.block.stmts.insert(0, answer);
    if !own {
        let before = syn::parse_quote!(::agenthost_sdk::__rt::before_sub_task(););
        found.block.stmts.insert(0, before);
    }
}

/// The function of the same name in the SDK.
fn own_answer(sig: &syn::Signature) -> TokenStream {
    let ident = &sig.ident;
    let arguments = arguments(sig).map(|argument| &argument.pat);
    let wait = sig.asyncness.map(|_| quote!(.await));
    quote!(::agenthost_sdk::__rt::#ident(#(#arguments),*) #wait)
}

/// The script of another plugin's task. Its key is computed in a function of its own, because the body of an `async`
/// function cannot depend on its own type.
fn task_answer(sig: &syn::Signature, import: &Import) -> TokenStream {
    let (ident, Import { name, package, .. }) = (&sig.ident, import);
    let key = quote!({
        fn key() -> ::core::any::TypeId {
            ::agenthost_sdk::__rt::key(&self::#ident)
        }
        key()
    });
    let inputs: Vec<_> = arguments(sig).collect();
    match (sig.asyncness, inputs.as_slice()) {
        (Some(_), [input]) => {
            let input = &input.pat;
            quote!(::agenthost_sdk::__rt::start(#key, #package, #input).await)
        }
        (None, [syn::PatType { pat, ty, .. }]) if matches!(ty.as_ref(), syn::Type::Reference(_)) => {
            quote!(::agenthost_sdk::__rt::start_now(#key, #package, ::std::borrow::ToOwned::to_owned(#pat)))
        }
        _ => quote!(::agenthost_sdk::__rt::unscriptable(#name)),
    }
}

fn arguments(sig: &syn::Signature) -> impl Iterator<Item = &syn::PatType> {
    sig.inputs.iter().filter_map(|input| match input {
        syn::FnArg::Typed(typed) => Some(typed),
        syn::FnArg::Receiver(_) => None,
    })
}
