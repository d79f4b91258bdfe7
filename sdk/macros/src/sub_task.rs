//! Imported tasks that a model can start: their futures get a name, and a description from the WIT.
//!
//! `async fn run(topic: Topic) -> …` becomes `fn run(topic: Topic) -> Run`, where `Run` is a future that implements the
//! SDK's `SubTask`. As before, nothing happens before the first poll. Left out: functions that are not `async`, that
//! have no parameter or several, or that have a type without a JSON form; these stay as the generator wrote them.

use quote::{format_ident, quote};
use wit_bindgen_core::wit_parser::{
    Docs, Function, FunctionKind, InterfaceId, PackageId, Resolve, Type, TypeDefKind, World, WorldItem,
};

use crate::form::{Form, form};
use crate::words::rust_ident;

/// A function that a model can start.
pub(crate) struct SubTask {
    /// The name in Rust.
    ident: String,
    /// The package, as in `demo:competitor@0.1.0`.
    plugin: String,
    /// The text of the WIT; empty if there is none.
    description: String,
    /// The name of the parameter in the WIT.
    parameter: String,
}

impl SubTask {
    /// Describes the function of this interface, if a model can start it.
    pub(crate) fn of(resolve: &Resolve, interface: InterfaceId, function: &Function) -> Option<SubTask> {
        let package = resolve.interfaces[interface].package?;
        let is_task = resolve.interfaces[interface].name.as_deref() == Some("task");
        let is_run = function.name == "run" && function.kind == FunctionKind::AsyncFreestanding;
        let [parameter] = function.params.as_slice() else {
            return None;
        };
        let has_json = has_json(resolve, &parameter.ty) && result_has_json(resolve, function.result.as_ref()?);
        (is_task && is_run && has_json).then(|| SubTask {
            ident: rust_ident(&function.name),
            plugin: resolve.packages[package].name.to_string(),
            description: description(resolve, package, interface, function),
            parameter: parameter.name.clone(),
        })
    }

    /// Makes the function in this module return a future with a name.
    pub(crate) fn name_future(&self, items: &mut Vec<syn::Item>) {
        // Free: the function `run` has taken the name in the WIT.
        let ident = format_ident!("Run");
        let found = items.iter_mut().find_map(|item| match item {
            syn::Item::Fn(found) if found.sig.ident == self.ident => Some(found),
            _ => None,
        });
        let Some(function) = found else { return };
        let (Some(syn::FnArg::Typed(argument)), syn::ReturnType::Type(_, output)) =
            (function.sig.inputs.first().cloned(), function.sig.output.clone())
        else {
            return;
        };
        let (pattern, input) = (&argument.pat, &argument.ty);

        let mut start = function.sig.clone();
        // No name of the WIT has underscores, so a parameter cannot have this one.
        start.ident = format_ident!("__start");
        let body = &function.block;
        function.block = syn::parse_quote!({
            #start #body
            #ident(::std::boxed::Box::pin(__start(#pattern)))
        });
        function.sig.asyncness = None;
        function.sig.output = syn::parse_quote!(-> #ident);

        let Self {
            plugin,
            description,
            parameter,
            ..
        } = self;
        let docs = format!("A task of `{plugin}`, which starts when the future is first polled.");
        let named = quote! {
            #[doc = #docs]
            #[must_use = "futures do nothing unless you `.await` or poll them"]
            pub struct #ident(
                ::core::pin::Pin<::std::boxed::Box<dyn ::core::future::Future<Output = #output>>>,
            );
            impl ::core::future::Future for #ident {
                type Output = #output;
                fn poll(
                    mut self: ::core::pin::Pin<&mut Self>,
                    context: &mut ::core::task::Context<'_>,
                ) -> ::core::task::Poll<Self::Output> {
                    self.0.as_mut().poll(context)
                }
            }
            impl ::agenthost_sdk::SubTask for #ident {
                const PLUGIN: &'static str = #plugin;
                const DESCRIPTION: &'static str = #description;
                const PARAMETER: &'static str = #parameter;
                type Input = #input;
                type Result = #output;
            }
        };
        let file: syn::File = syn::parse_quote!(#named);
        items.extend(file.items);
    }
}

fn has_json(resolve: &Resolve, ty: &Type) -> bool {
    form(resolve, ty) == Form::Json
}

/// Returns whether a type is a `result` whose value and error have a JSON form.
fn result_has_json(resolve: &Resolve, ty: &Type) -> bool {
    let Type::Id(id) = ty else { return false };
    match &resolve.types[*id].kind {
        TypeDefKind::Result(result) => [&result.ok, &result.err]
            .into_iter()
            .flatten()
            .all(|ty| has_json(resolve, ty)),
        TypeDefKind::Type(ty) => result_has_json(resolve, ty),
        _ => false,
    }
}

/// The texts about the package (or, if it has none, about the world that exports the interface), the interface and the
/// function. Together they describe the task: by convention, the package says what it is for, and the function when it
/// fails.
fn description(resolve: &Resolve, package: PackageId, interface: InterfaceId, function: &Function) -> String {
    let text = |docs: &Docs| docs.contents.as_deref().map(str::trim).unwrap_or_default().to_owned();
    let package = &resolve.packages[package];
    let exports = |world: &&World| {
        let mut exports = world.exports.values();
        exports.any(|item| matches!(item, WorldItem::Interface { id, .. } if *id == interface))
    };
    let worlds = package.worlds.values().map(|world| &resolve.worlds[*world]);
    let purposes = std::iter::once(text(&package.docs)).chain(worlds.filter(exports).map(|world| text(&world.docs)));
    let purpose = purposes.into_iter().find(|text| !text.is_empty());
    let mut texts: Vec<String> = purpose.into_iter().collect();
    for docs in [&resolve.interfaces[interface].docs, &function.docs] {
        let text = text(docs);
        if !text.is_empty() && !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join("\n\n")
}
