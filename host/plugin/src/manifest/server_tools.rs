//! The tools of providers that a plugin asks for, such as web search, in the manifest's syntax.

use std::collections::BTreeMap;

use serde_json::Value;

use agenthost_core::llm::{ServerToolGrant, ServerToolGrants};

/// Reads a table of tools with their bounds, or a list of names. Null asks for none.
///
/// # Errors
///
/// Returns the reason for the first tool that is not known or not valid.
pub(super) fn read(value: &Value) -> Result<ServerToolGrants, String> {
    let mut tools = BTreeMap::new();
    match value {
        Value::Null => {}
        Value::Array(names) => {
            for name in names {
                let name = name.as_str().ok_or("the list has a value that is not a name")?;
                tools.insert(name.parse()?, ServerToolGrant::default());
            }
        }
        Value::Object(entries) => {
            for (name, bounds) in entries {
                tools.insert(
                    name.parse()?,
                    read_bounds(bounds).map_err(|why| format!("`{name}`: {why}"))?,
                );
            }
        }
        _ => return Err("neither a table nor a list of names".to_owned()),
    }
    Ok(ServerToolGrants(tools))
}

fn read_bounds(value: &Value) -> Result<ServerToolGrant, String> {
    if !value.is_object() {
        return Err("it is not a table; write { max-uses = 5 }".to_owned());
    }
    let bounds: ServerToolGrant = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    bounds.check()?;
    Ok(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wish_is_a_list_of_names_or_a_table_of_bounds() {
        for (value, shown) in [
            (Value::Null, "none"),
            (json!([]), "none"),
            (json!(["web-search", "web-search"]), "web-search (5 uses a call)"),
            (
                json!({"web-fetch": {}, "web-search": {"max-uses": 2, "allowed-domains": ["Example.com"]}}),
                "web-search (2 uses a call, only example.com); web-fetch (5 uses a call)",
            ),
        ] {
            assert_eq!(read(&value).unwrap().to_string(), shown, "{value}");
        }
        for (wrong, problem) in [
            (json!("web-search"), "neither a table nor a list of names"),
            (json!([5]), "the list has a value that is not a name"),
            (
                json!(["web-serch"]),
                "`web-serch` is not a tool of a provider; the nearest is `web-search`",
            ),
            (
                json!({"web-search": 5}),
                "`web-search`: it is not a table; write { max-uses = 5 }",
            ),
            (
                json!({"web-search": {"max-use": 5}}),
                "`web-search`: unknown field `max-use`",
            ),
            (
                json!({"web-search": {"max-uses": 0}}),
                "`web-search`: `max-uses` is a number from 1 to 100",
            ),
            (json!({"web-search": {"max-uses": -1}}), "`web-search`: invalid value"),
            (
                json!({"web-search": {"allowed-domains": ["https://a.com"]}}),
                "`web-search`: \"https://a.com\" is not a domain",
            ),
            (
                json!({"web-search": {"blocked-domains": []}}),
                "`web-search`: a list of domains is empty",
            ),
            (
                json!({"web-fetch": {"allowed-domains": ["a.com"], "blocked-domains": ["b.com"]}}),
                "`web-fetch`: `allowed-domains` and `blocked-domains` exclude",
            ),
        ] {
            let error = read(&wrong).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
    }
}
