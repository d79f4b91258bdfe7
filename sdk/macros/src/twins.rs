//! Puts the author's own types in place of those that the generator wrote for them.
//!
//! The generated code destructures and builds records and variants by their names, which the author's types share. An
//! enum without payloads needs more: the number of a case, which is `clone() as i32`, and the case of a number, which
//! is `_lift`. This depends on the generator's output, hence its pinned version.

use quote::{format_ident, quote};

/// A type that the call site of the bindings defines.
pub(crate) struct Own {
    pub(crate) ident: String,
    /// The cases, of an enum without payloads.
    pub(crate) cases: Option<Vec<String>>,
}

/// Removes the items that the generator wrote for these types, and imports the call site's types from `up` modules
/// above. Traits become private to that module, because its types may be.
pub(crate) fn replace(items: &mut Vec<syn::Item>, own: &[Own], up: usize) {
    if own.is_empty() {
        return;
    }
    let find = |ident: &syn::Ident| own.iter().find(|own| ident == own.ident.as_str());
    let supers = vec![quote!(super); up];
    let mut kept = Vec::new();
    for mut item in items.drain(..) {
        if let syn::Item::Trait(item) = &mut item {
            item.vis = syn::parse_quote!(pub(in #(#supers)::*));
            item.attrs.push(syn::parse_quote!(#[allow(private_interfaces)]));
        }
        match &item {
            syn::Item::Struct(twin) if find(&twin.ident).is_some() => {}
            syn::Item::Enum(twin) if find(&twin.ident).is_some() => {}
            syn::Item::Impl(twin) => match implementor(twin).and_then(find) {
                Some(Own { cases: Some(cases), .. }) => kept.extend(lift(twin, cases)),
                Some(_) => {}
                None => kept.push(item),
            },
            _ => kept.push(item),
        }
    }
    for own in own {
        let ident = format_ident!("{}", own.ident);
        kept.push(syn::parse_quote!(use #(#supers::)* #ident;));
    }
    *items = kept;
}

/// The type of an implementation, if it is one of this module.
fn implementor(item: &syn::ItemImpl) -> Option<&syn::Ident> {
    match item.self_ty.as_ref() {
        syn::Type::Path(path) => path.path.get_ident(),
        _ => None,
    }
}

/// `_lift` with the generator's signature but without its transmute, because the layout of the author's enum is not
/// fixed.
fn lift(twin: &syn::ItemImpl, cases: &[String]) -> Option<syn::Item> {
    let mut twin = twin.clone();
    let function = twin.items.iter_mut().find_map(|item| match item {
        syn::ImplItem::Fn(function) if function.sig.ident == "_lift" => Some(function),
        _ => None,
    })?;
    // The number is already checked, so the last case needs no pattern.
    let (last, others) = cases.split_last()?;
    let arms = others.iter().enumerate().map(|(number, case)| {
        let (number, case) = (
            proc_macro2::Literal::usize_unsuffixed(number),
            format_ident!("{}", case),
        );
        quote!(#number => Self::#case,)
    });
    let last = format_ident!("{}", last);
    function.block = syn::parse_quote!({ match val { #(#arms)* _ => Self::#last, } });
    Some(syn::Item::Impl(twin))
}
