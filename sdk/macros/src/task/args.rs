//! The arguments of `task`, and the package's name without them.

use std::env;

use heck::ToKebabCase as _;
use syn::parse::{Parse, ParseStream};
use syn::{Error, LitStr, Result, Token};

#[derive(Default)]
pub(super) struct Args {
    pub(super) package: Option<LitStr>,
    pub(super) path: Option<LitStr>,
    pub(super) inline: Option<LitStr>,
    pub(super) imports: Vec<LitStr>,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Args> {
        let mut args = Args::default();
        while !input.is_empty() {
            let name: syn::Ident = input.parse()?;
            match name.to_string().as_str() {
                "package" => args.package = Some(text(input)?),
                "path" => args.path = Some(text(input)?),
                "inline" => args.inline = Some(text(input)?),
                "imports" => {
                    let list;
                    syn::parenthesized!(list in input);
                    let list = list.parse_terminated(<LitStr as Parse>::parse, Token![,])?;
                    args.imports.extend(list);
                }
                other => {
                    return Err(Error::new(
                        name.span(),
                        format!(
                            "unknown argument `{other}`: `task` takes `package = \"demo:competitor@0.1.0\"`, \
                             `imports(\"demo:compare@0.1.0\")`, and `path = \"wit\"` or `inline = \"package …\"`"
                        ),
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(args)
    }
}

fn text(input: ParseStream<'_>) -> Result<LitStr> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// `local:NAME@MAJOR.MINOR.0`, of the crate that is being compiled: a patch release leaves the interface as it is.
pub(super) fn default_package() -> String {
    let field = |name: &str| env::var(format!("CARGO_PKG_{name}")).unwrap_or_default();
    package_of(&field("NAME"), &field("VERSION_MAJOR"), &field("VERSION_MINOR"))
}

fn package_of(name: &str, major: &str, minor: &str) -> String {
    format!("local:{}@{major}.{minor}.0", name.to_kebab_case())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_the_crates_with_the_version_of_its_interface() {
        assert_eq!(package_of("market_scan", "1", "4"), "local:market-scan@1.4.0");
    }

    #[test]
    fn arguments_come_in_any_order() {
        let args: Args = syn::parse_str(r#"imports("a:b@0.1.0", "c:d@1.0.0"), package = "e:f@0.2.0","#).unwrap();
        assert_eq!(args.imports.len(), 2);
        assert_eq!(args.package.unwrap().value(), "e:f@0.2.0");
        let error = syn::parse_str::<Args>("name = \"x\"")
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("unknown argument `name`: `task` takes `package ="),
            "{error}"
        );
    }
}
