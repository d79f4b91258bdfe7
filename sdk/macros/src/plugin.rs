//! The expansion of `plugin!`: the bindings in a module of their own, the names that the author uses, and the glue from
//! the exported task to the author's `run`. `task` uses the bindings and the glue too.
//!
//! The glue is written at the call site, with types by name, so that a `run` with another signature is an ordinary type
//! mismatch. Only a component exports it; natively the crate compiles, and its tests run, without the export's symbols.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use proc_macro2::{Group, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote};
use syn::parse::{Parse, ParseStream};
use wit_bindgen_core::wit_parser::{
    InterfaceId, PackageId, Resolve, Type, TypeDefKind, TypeId, TypeOwner, WorldId, WorldItem,
};

use crate::bindings::{generate, module_items, module_path, sdk_path, type_ident};
use crate::embed;
use crate::source::{Deps, Source, contract};
use crate::twins::{self, Own};
use crate::words::{package_module, rust_ident};

/// The arguments of `plugin!`.
pub(crate) struct Args {
    world: Option<String>,
    wit: Wit,
}

/// The place of the WIT.
enum Wit {
    /// A directory of the crate.
    Path(String),
    /// The text itself.
    Inline(String),
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> syn::Result<Args> {
        let mut args = Args {
            world: None,
            wit: Wit::Path("wit".to_owned()),
        };
        if input.peek(syn::LitStr) {
            args.world = Some(input.parse::<syn::LitStr>()?.value());
            if !input.is_empty() {
                input.parse::<syn::Token![,]>()?;
            }
        }
        if !input.is_empty() {
            let name: syn::Ident = input.parse()?;
            let place = match name.to_string().as_str() {
                "path" => Wit::Path,
                "inline" => Wit::Inline,
                _ => {
                    return Err(syn::Error::new(
                        name.span(),
                        "expected a world's name, `path = \"…\"` or `inline = \"…\"`",
                    ));
                }
            };
            input.parse::<syn::Token![=]>()?;
            args.wit = place(input.parse::<syn::LitStr>()?.value());
            input.parse::<Option<syn::Token![,]>>()?;
        }
        if !input.is_empty() {
            return Err(
                input.error("`plugin!` takes a world's name, and `path = \"…\"` or `inline = \"…\"`, in this order")
            );
        }
        Ok(args)
    }
}

/// The bindings that the SDK holds for all plugins.
pub(crate) fn sdk_bindings() -> Result<TokenStream> {
    let (mut resolve, world) = contract()?;
    let mut file = generate(&mut resolve, world, true)?;
    // The SDK implements `Display` for this error itself.
    let llm = ["agenthost", "plugin", "llm"].map(str::to_owned);
    module_items(&mut file, &llm)?.retain(|item| !implements(item, "Display", "Error"));
    Ok(file.into_token_stream())
}

fn implements(item: &syn::Item, name: &str, ty: &str) -> bool {
    let syn::Item::Impl(item) = item else { return false };
    let syn::Type::Path(path) = item.self_ty.as_ref() else {
        return false;
    };
    let last = |path: &syn::Path, name: &str| path.segments.last().is_some_and(|segment| segment.ident == name);
    last(&path.path, ty) && item.trait_.as_ref().is_some_and(|(_, path, _)| last(path, name))
}

/// Expands `plugin!`.
pub(crate) fn expand(args: &Args) -> Result<TokenStream> {
    let root = root()?;
    let world = args.world.as_deref();
    let source = match &args.wit {
        Wit::Path(path) => Source::read(&root, path, world)?,
        Wit::Inline(text) => Source::written(text.clone(), Deps::default(), world)?,
    };
    let names = names(&source)?;
    let glue = glue(source, &root, &[])?;
    Ok(quote!(#glue #names))
}

/// The directory of the crate that is being compiled.
pub(crate) fn root() -> Result<PathBuf> {
    Ok(PathBuf::from(
        env::var("CARGO_MANIFEST_DIR").context("not compiled by cargo")?,
    ))
}

/// Generates the bindings, the modules of the sub-agents and the export, for a call site that defines the function
/// `run`; `own` lists the task's types that the call site defines itself.
pub(crate) fn glue(mut source: Source, root: &Path, own: &[Own]) -> Result<TokenStream> {
    let manifest = root.join("Cargo.toml");
    let sections = embed::sections(&source, &manifest)?;
    let sub_agents = sub_agents(&source)?;
    let task = module_path(&source.resolve, source.task, true)?;

    let mut file = generate(&mut source.resolve, source.world, false)?;
    let items = module_items(&mut file, &task)?;
    twins::replace(items, own, task.len() + 1);
    let task = path(&task);
    let Run {
        asyncness,
        arguments,
        names: passed,
        aliases,
    } = run(items, &task)?;
    let wait = asyncness.map(|_| quote!(.await));
    items.extend(aliases);
    let exports = exports(items, &task)?;
    let bindings = &file.items;
    let tracked = tracked(&source, &manifest);

    Ok(quote! {
        #[doc(hidden)]
        #[allow(
            missing_docs, private_interfaces, unreachable_pub, unused, clippy::all, clippy::nursery, clippy::pedantic,
            clippy::restriction, reason = "generated"
        )]
        mod __agenthost_plugin {
            #(#bindings)*
            #sections
            #tracked
        }
        #sub_agents
        #[allow(dead_code, reason = "what the exported task calls is in use, natively too")]
        #asyncness fn __agenthost_run(#arguments) -> #task::__Output {
            run(#(#passed),*) #wait
        }
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Plugin;
            impl #task::Guest for Plugin {
                #asyncness fn run(#arguments) -> #task::__Output {
                    __agenthost_run(#(#passed),*) #wait
                }
            }
            #exports
        };
    })
}

/// The path of a module of the bindings, as seen from the call site.
fn path(module: &[String]) -> TokenStream {
    let segments = module.iter().map(|name| format_ident!("{}", name));
    quote!(self::__agenthost_plugin #(::#segments)*)
}

/// Brings the task's types into scope; types of the shared package are the SDK's own.
fn names(source: &Source) -> Result<TokenStream> {
    let task = path(&module_path(&source.resolve, source.task, true)?);
    let mut tokens = TokenStream::new();
    for (name, id) in &source.resolve.interfaces[source.task].types {
        let ident = format_ident!("{}", type_ident(name));
        let used = match shared(source, *id) {
            Some((module, original)) => {
                let module: syn::Path = syn::parse_str(&module)?;
                let original = format_ident!("{}", type_ident(&original));
                quote!(#module::#original as #ident)
            }
            None => quote!(#task::#ident),
        };
        tokens.extend(quote!(#[allow(unused_imports, reason = "generated")] use #used;));
    }
    Ok(tokens)
}

/// The SDK's module and the WIT name of the shared type that this one is an alias of.
fn shared(source: &Source, mut id: TypeId) -> Option<(String, String)> {
    let resolve = &source.resolve;
    while let TypeDefKind::Type(Type::Id(next)) = resolve.types[id].kind {
        id = next;
    }
    match resolve.types[id].owner {
        TypeOwner::Interface(interface) => Some((sdk_path(resolve, interface)?, resolve.types[id].name.clone()?)),
        _ => None,
    }
}

/// Brings each imported task into scope as a module named after its package.
fn sub_agents(source: &Source) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    for (alias, id) in tasks(&source.resolve, source.world) {
        let module = path(&module_path(&source.resolve, id, false)?);
        let alias = format_ident!("{}", alias);
        tokens.extend(quote!(#[allow(unused_imports, reason = "generated")] use #module as #alias;));
    }
    Ok(tokens)
}

/// The imported tasks, by the names of their modules. Packages with the same name are distinguished by namespace and,
/// if that is equal too, by version.
pub(crate) fn tasks(resolve: &Resolve, world: WorldId) -> Vec<(String, InterfaceId)> {
    let mut tasks: BTreeMap<String, Vec<(PackageId, InterfaceId)>> = BTreeMap::new();
    for item in resolve.worlds[world].imports.values() {
        if let WorldItem::Interface { id, .. } = item
            && let interface = &resolve.interfaces[*id]
            && interface.name.as_deref() == Some("task")
            && let Some(package) = interface.package
        {
            let name = rust_ident(&resolve.packages[package].name.name);
            tasks.entry(name).or_default().push((package, *id));
        }
    }
    let named = |(name, ids): (String, Vec<(PackageId, InterfaceId)>)| match ids.as_slice() {
        [(_, id)] => vec![(name, *id)],
        several => several
            .iter()
            .map(|(package, id)| {
                let namespace = rust_ident(&resolve.packages[*package].name.namespace);
                (format!("{namespace}_{}", package_module(resolve, *package)), *id)
            })
            .collect(),
    };
    tasks.into_iter().flat_map(named).collect()
}

/// The generated signature of `run`, taken apart.
struct Run {
    asyncness: Option<syn::Token![async]>,
    /// As in `input: …::__Input0`.
    arguments: TokenStream,
    names: Vec<syn::Pat>,
    /// The types of the signature under names that the call site can use.
    aliases: Vec<syn::Item>,
}

fn run(items: &[syn::Item], task: &TokenStream) -> Result<Run> {
    let guest = items.iter().find_map(|item| match item {
        syn::Item::Trait(guest) if guest.ident == "Guest" => Some(guest),
        _ => None,
    });
    let sig = guest
        .and_then(|guest| {
            guest.items.iter().find_map(|item| match item {
                syn::TraitItem::Fn(function) if function.sig.ident == "run" => Some(&function.sig),
                _ => None,
            })
        })
        .context("the generator gave no function `run`")?;

    let (mut arguments, mut names, mut aliases) = (TokenStream::new(), Vec::new(), Vec::new());
    let inputs = sig.inputs.iter().filter_map(|input| match input {
        syn::FnArg::Typed(typed) => Some(typed),
        syn::FnArg::Receiver(_) => None,
    });
    for (index, input) in inputs.enumerate() {
        let (alias, name, ty) = (format_ident!("__Input{}", index), &input.pat, &input.ty);
        aliases.push(syn::parse_quote!(#[doc(hidden)] pub type #alias = #ty;));
        arguments.extend(quote!(#name: #task::#alias,));
        names.push(name.as_ref().clone());
    }
    let output = match &sig.output {
        syn::ReturnType::Default => quote!(()),
        syn::ReturnType::Type(_, ty) => ty.to_token_stream(),
    };
    aliases.push(syn::parse_quote!(#[doc(hidden)] pub type __Output = #output;));
    Ok(Run {
        asyncness: sig.asyncness,
        arguments,
        names,
        aliases,
    })
}

/// The body of the generated export macro, for the type `Plugin`.
///
/// Expanded here and not by the compiler, because lints of the author's crate apply to macros that the crate defines:
/// `deny(unsafe_code)` would reject the exports.
fn exports(items: &[syn::Item], task: &TokenStream) -> Result<TokenStream> {
    let tokens = items.iter().find_map(|item| match item {
        syn::Item::Macro(definition) if definition.mac.path.is_ident("macro_rules") => {
            Some(definition.mac.tokens.clone())
        }
        _ => None,
    });
    let body = tokens.into_iter().flatten().filter_map(|token| match token {
        TokenTree::Group(group) => Some(group.stream()),
        _ => None,
    });
    body.last()
        .map(|body| substitute(body, task))
        .context("the generator gave no export macro")
}

/// Replaces `$ty` with `Plugin`, and `$($path_to_types)*` with the module.
fn substitute(tokens: TokenStream, task: &TokenStream) -> TokenStream {
    let (mut out, mut tokens) = (TokenStream::new(), tokens.into_iter());
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '$' => match tokens.next() {
                Some(TokenTree::Group(_)) => {
                    tokens.next();
                    out.extend(task.clone());
                }
                _ => out.extend(quote!(Plugin)),
            },
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), substitute(group.stream(), task));
                inner.set_span(group.span());
                out.extend([TokenTree::Group(inner)]);
            }
            other => out.extend([other]),
        }
    }
    out
}

/// Makes the compiler watch every file that the expansion was computed from.
fn tracked(source: &Source, manifest: &Path) -> TokenStream {
    let files = source
        .read
        .iter()
        .map(PathBuf::as_path)
        .chain([manifest])
        .filter_map(Path::to_str);
    quote!(#(const _: &[u8] = ::core::include_bytes!(#files);)*)
}
