//! serde's and schemars' derives for a crate that depends on neither.
//!
//! Their derives refer to the crates `serde` and `schemars` unless an attribute on the type overrides the path, and a
//! derive macro cannot add attributes to its own type. So each derive here generates a copy of the type that has the
//! attribute (serde calls the pattern a remote derive), and an implementation for the type itself that uses the copy.
//! Left out: generic types, which need the crates' own derives.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Ident, Result};

pub(crate) fn serialize(input: DeriveInput) -> Result<TokenStream> {
    let (name, copy, item) = copy(input, &["serde"], "Serialize")?;
    let remote = name.to_string();
    Ok(quote! {
        const _: () = {
            #[derive(::agenthost_sdk::serde::Serialize)]
            #[serde(crate = "::agenthost_sdk::serde", remote = #remote)]
            #item
            impl ::agenthost_sdk::serde::Serialize for #name {
                fn serialize<S: ::agenthost_sdk::serde::Serializer>(
                    &self,
                    serializer: S,
                ) -> ::core::result::Result<S::Ok, S::Error> {
                    #copy::serialize(self, serializer)
                }
            }
        };
    })
}

pub(crate) fn deserialize(input: DeriveInput) -> Result<TokenStream> {
    let (name, copy, item) = copy(input, &["serde"], "Deserialize")?;
    let remote = name.to_string();
    Ok(quote! {
        const _: () = {
            #[derive(::agenthost_sdk::serde::Deserialize)]
            #[serde(crate = "::agenthost_sdk::serde", remote = #remote)]
            #item
            impl<'de> ::agenthost_sdk::serde::Deserialize<'de> for #name {
                fn deserialize<D: ::agenthost_sdk::serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    #copy::deserialize(deserializer)
                }
            }
        };
    })
}

pub(crate) fn json_schema(input: DeriveInput) -> Result<TokenStream> {
    let renamed = input.attrs.iter().any(renames);
    let (name, copy, item) = copy(input, &["serde", "schemars", "doc"], "JsonSchema")?;
    let title = name.to_string();
    let rename = (!renamed).then(|| quote!(#[schemars(rename = #title)]));
    Ok(quote! {
        const _: () = {
            #[derive(::agenthost_sdk::schemars::JsonSchema)]
            #[schemars(crate = "::agenthost_sdk::schemars")]
            #rename
            #item
            impl ::agenthost_sdk::schemars::JsonSchema for #name {
                fn inline_schema() -> bool {
                    <#copy as ::agenthost_sdk::schemars::JsonSchema>::inline_schema()
                }
                fn schema_name() -> ::std::borrow::Cow<'static, str> {
                    <#copy as ::agenthost_sdk::schemars::JsonSchema>::schema_name()
                }
                fn schema_id() -> ::std::borrow::Cow<'static, str> {
                    ::std::borrow::Cow::Borrowed(::core::concat!(::core::module_path!(), "::", #title))
                }
                fn json_schema(
                    generator: &mut ::agenthost_sdk::schemars::SchemaGenerator,
                ) -> ::agenthost_sdk::schemars::Schema {
                    <#copy as ::agenthost_sdk::schemars::JsonSchema>::json_schema(generator)
                }
            }
        };
    })
}

/// The type's name, its copy's name, and the copy with only these attributes.
fn copy(mut input: DeriveInput, keep: &[&str], derive: &str) -> Result<(Ident, Ident, TokenStream)> {
    if let Some(parameter) = input.generics.params.first() {
        let text =
            format!("`{derive}` of agenthost_sdk takes no generic type; depend on the crate and use its own derive");
        return Err(syn::Error::new_spanned(parameter, text));
    }
    let name = input.ident.clone();
    // The derives name their own type parameters `__S` or `__D`, as a copy of a type with one letter might be called.
    let copy = format_ident!("__AgenthostCopyOf{}", name);
    input.ident = copy.clone();
    retain(&mut input.attrs, keep);
    match &mut input.data {
        Data::Struct(data) => data.fields.iter_mut().for_each(|field| retain(&mut field.attrs, keep)),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                retain(&mut variant.attrs, keep);
                variant
                    .fields
                    .iter_mut()
                    .for_each(|field| retain(&mut field.attrs, keep));
            }
        }
        Data::Union(data) => {
            return Err(syn::Error::new_spanned(
                data.union_token,
                format!("a union has no `{derive}`"),
            ));
        }
    }
    Ok((name, copy, quote!(#[allow(dead_code, non_camel_case_types)] #input)))
}

fn retain(attributes: &mut Vec<Attribute>, keep: &[&str]) {
    attributes.retain(|attribute| {
        attribute.path().is_ident("cfg") || keep.iter().any(|name| attribute.path().is_ident(name))
    });
}

/// Returns whether a serde or schemars attribute renames the type.
fn renames(attribute: &Attribute) -> bool {
    let mut found = false;
    if attribute.path().is_ident("serde") || attribute.path().is_ident("schemars") {
        // The derive itself reports syntax that is not understood here.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("rename");
            if meta.input.peek(syn::Token![=]) {
                meta.value()?.parse::<syn::Expr>()?;
            } else if meta.input.peek(syn::token::Paren) {
                meta.parse_nested_meta(|inner| inner.value()?.parse::<syn::Expr>().map(drop))?;
            }
            Ok(())
        });
    }
    found
}
