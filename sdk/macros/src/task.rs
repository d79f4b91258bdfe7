//! The expansion of `task`: converts a module's Rust types and its function `run` to WIT, and continues as `plugin!`
//! does.
//!
//! The author's items keep their tokens and spans; the bindings use them in place of generated types. An item that has
//! no form in WIT is an error at its place. Left out: `flags`, resources and several interfaces, for which an author
//! writes the WIT.

use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Error, ItemMod, LitStr, Result};
use wit_bindgen_core::wit_parser::{InterfaceId, PackageName, Resolve};

use crate::bindings::type_ident;
use crate::plugin::{glue, root, tasks};
use crate::source::{Deps, Source, contract, world};
use crate::twins::Own;

use self::args::Args;
use self::read::{Kind, Shared, Task};

mod args;
mod names;
mod read;
#[cfg(test)]
mod tests;
mod types;
mod wit;

/// Expands `#[task(args)] item`.
pub(crate) fn expand(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut module = match syn::parse2::<ItemMod>(item.clone()) {
        Ok(module) => module,
        Err(_) => {
            let error = Error::new_spanned(
                &item,
                "`task` stands on a module: `#[agenthost_sdk::task] mod greeter { … }`",
            );
            let error = error.into_compile_error();
            return quote!(#error #item);
        }
    };
    match in_module(args, &mut module) {
        Ok(generated) => {
            if let Some((_, items)) = &mut module.content {
                items.push(syn::Item::Verbatim(generated));
            }
            quote!(#module)
        }
        Err(error) => {
            // The compiler still reports other errors in the module, but not that its items are unused.
            let error = error.into_compile_error();
            quote!(#error #[allow(dead_code, unused_imports)] #module)
        }
    }
}

/// Generates the items that the module needs besides the author's. Of these, only an enum that has to be `Clone` is
/// changed.
fn in_module(args: TokenStream, module: &mut ItemMod) -> Result<TokenStream> {
    let args: Args = syn::parse2(args)?;
    let Some((_, items)) = &mut module.content else {
        return Err(Error::new_spanned(
            &*module,
            "a macro sees no other file: write the module here, as `mod … { … }`",
        ));
    };
    let here = |error: anyhow::Error| Error::new(module.ident.span(), format!("{error:#}"));
    let root = root().map_err(here)?;
    let package = package(&args, module.ident.span())?;
    let imports = Imports::read(&args, &root)?;
    let shared = imports.shared(&package)?;

    let task = read::read(&module.ident, &module.attrs, items, &shared)?;
    let source = Source::written(wit::text(&package, &imports.interfaces, &task), imports.deps()?, None);
    clonable(items, &task);
    source.and_then(|source| glue(source, &root, &own(&task))).map_err(here)
}

/// The package's name as written in WIT text.
fn package(args: &Args, module: Span) -> Result<String> {
    let (name, span) = match &args.package {
        Some(given) => (given.value(), given.span()),
        None => (args::default_package(), module),
    };
    let parsed = package_name(&name);
    if parsed.as_ref().is_none_or(|parsed| parsed.version.is_none()) {
        return Err(Error::new(
            span,
            format!(
                "`{name}` is not a WIT package with a version: name it `package = \"namespace:name@0.1.0\"`, in lower-case words \
                 with `-` between them"
            ),
        ));
    }
    Ok(name)
}

fn package_name(text: &str) -> Option<PackageName> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let (namespace, name) = name.split_once(':')?;
    let valid = |id: &str| wit_bindgen_core::wit_parser::validate_id(id).is_ok();
    (valid(namespace) && valid(name)).then_some(())?;
    Some(PackageName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        version: version.map(str::parse).transpose().ok()?,
    })
}

/// The imported tasks, and the directory of their WIT.
struct Imports {
    /// As in `demo:competitor/task@0.1.0`.
    interfaces: Vec<String>,
    dir: PathBuf,
    /// The directory as error messages name it.
    path: String,
    /// The WIT itself, if it is not in the directory.
    inline: Option<String>,
    /// The place that names the first of them.
    span: Span,
}

impl Imports {
    fn read(args: &Args, root: &Path) -> Result<Imports> {
        let path = args.path.as_ref().map_or_else(|| "wit".to_owned(), LitStr::value);
        let mut imports = Imports {
            interfaces: Vec::new(),
            dir: root.join(&path),
            inline: args.inline.as_ref().map(LitStr::value),
            span: args.imports.first().map_or_else(Span::call_site, LitStr::span),
            path,
        };
        for import in &args.imports {
            let (text, deps, path) = (import.value(), imports.existing()?, &imports.path);
            let Some(package) = deps.names().into_iter().find(|known| known.to_string() == text) else {
                let known: Vec<_> = deps.names().iter().map(ToString::to_string).collect();
                let has = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                let name = text.split('@').next().unwrap_or_default();
                let other = known.iter().find(|known| known.split('@').next() == Some(name));
                let hint = match (other, package_name(&text)) {
                    (Some(other), _) => format!("; the sub-agent is of another version: name `{other}` here"),
                    (None, short) => format!(
                        "\nhint: name the sub-agent in Cargo.toml, below [package.metadata.agenthost.sub-agents], and \
                         `agenthost build` copies its WIT there; or copy it by hand into {path}/deps/{}",
                        short.map_or_else(|| "NAME".to_owned(), |package| package.name)
                    ),
                };
                return Err(Error::new(
                    import.span(),
                    format!("no package `{text}` in {path}/deps, which has {has}{hint}"),
                ));
            };
            let interface = package.interface_id("task");
            imports.interfaces.push(interface);
        }
        Ok(imports)
    }

    /// Reads the packages that the task needs; without imports, it reads none.
    fn deps(&self) -> Result<Deps> {
        match self.interfaces.is_empty() {
            true => Ok(Deps::default()),
            false => self.existing(),
        }
    }

    fn existing(&self) -> Result<Deps> {
        let deps = match &self.inline {
            Some(text) => Deps::written(text, &self.path),
            None => Deps::read(&self.dir, &self.path),
        };
        deps.map_err(|error| self.error(&error))
    }

    fn error(&self, error: &anyhow::Error) -> Error {
        Error::new(self.span, format!("{error:#}"))
    }

    /// The types that the module may use besides its own: the contract's, and those of imported tasks.
    fn shared(&self, package: &str) -> Result<Vec<Shared>> {
        let (resolve, _) = contract().map_err(|error| self.error(&error))?;
        let mut found = Vec::new();
        for (id, interface) in resolve.interfaces.iter() {
            match interface.name.as_deref() {
                Some("types") => found.push(of_interface(&resolve, id, "")),
                Some(name) => found.push(of_interface(&resolve, id, name)),
                None => {}
            }
        }
        if !self.interfaces.is_empty() {
            let imported = world(wit::imports(package, &self.interfaces), self.deps()?);
            let (resolve, world) = imported.map_err(|error| self.error(&error))?;
            let tasks = tasks(&resolve, world);
            found.extend(tasks.iter().map(|(module, id)| of_interface(&resolve, *id, module)));
        }
        Ok(found)
    }
}

fn of_interface(resolve: &Resolve, id: InterfaceId, module: &str) -> Shared {
    let names = resolve.interfaces[id].types.keys();
    Shared {
        module: module.to_owned(),
        interface: resolve.id_of(id).unwrap_or_default(),
        types: names.map(|name| (type_ident(name), name.clone())).collect(),
    }
}

/// The task's types, for the bindings.
fn own(task: &Task) -> Vec<Own> {
    let cases = |named: &read::Named| named.members.iter().map(|case| case.ident.to_string()).collect();
    let types = task.types.iter();
    types
        .map(|named| Own {
            ident: named.ident.to_string(),
            cases: (named.kind == Kind::Enum).then(|| cases(named)),
        })
        .collect()
}

/// Makes enums without payloads `Clone` unless the module does.
fn clonable(items: &mut [syn::Item], task: &Task) {
    let implemented: Vec<String> = items.iter().filter_map(implements_clone).collect();
    let plain = |ident: &syn::Ident| {
        task.types
            .iter()
            .any(|named| named.ident == *ident && named.kind == Kind::Enum)
    };
    for item in items {
        if let syn::Item::Enum(item) = item
            && plain(&item.ident)
            && !item.attrs.iter().any(derives_clone)
            && !implemented.contains(&item.ident.to_string())
        {
            item.attrs.push(syn::parse_quote!(#[derive(::core::clone::Clone)]));
        }
    }
}

fn derives_clone(attribute: &syn::Attribute) -> bool {
    let mut found = false;
    if attribute.path().is_ident("derive") {
        // The compiler reports syntax that is not understood here.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.segments.last().is_some_and(|last| last.ident == "Clone");
            Ok(())
        });
    }
    found
}

/// The type of an `impl Clone for …`.
fn implements_clone(item: &syn::Item) -> Option<String> {
    let syn::Item::Impl(item) = item else { return None };
    let (_, implemented, _) = item.trait_.as_ref()?;
    let syn::Type::Path(path) = item.self_ty.as_ref() else {
        return None;
    };
    let clone = implemented.segments.last().is_some_and(|last| last.ident == "Clone");
    clone.then(|| path.path.get_ident().map(ToString::to_string))?
}
