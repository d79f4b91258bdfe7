//! Reads the tools of providers that a grant or a policy allows, such as
//! `{ web-search = { max-uses = 5, allowed-domains = ["example.com"] } }` or, for short, `["web-search"]`.
//!
//! A configuration grants them, and a policy bounds them; both have the same form.

use std::collections::BTreeMap;

use crate::error::FileError;
use crate::reader::TomlEntry;
use agenthost_core::limits::units::parse_count;
use agenthost_core::llm::server_tool::{Domain, MOST_USES};
use agenthost_core::llm::{ServerToolGrant, ServerToolGrants, ServerToolKind};

const HINT: &str = "Write server-tools = { web-search = { max-uses = 5, allowed-domains = [\"example.com\"] } }, or \
                    server-tools = [\"web-search\"] for the defaults.";
const EMPTY: &str = "Name the domains, or leave the key out: without it, the tool may use all domains.";

/// Reads the value of `server-tools`.
///
/// # Errors
///
/// Returns an error with the place for an unknown tool, an unknown key, and a value that is not valid.
#[doc(hidden)]
pub fn read(entry: &TomlEntry<'_>) -> Result<ServerToolGrants, FileError> {
    let with_hint = |error: FileError| error.with_advice(HINT);
    let mut grants = BTreeMap::new();
    let Some(section) = entry.section_unless_list().map_err(with_hint)? else {
        for kind in entry.list_as(str::parse::<ServerToolKind>).map_err(with_hint)? {
            if grants.insert(kind, ServerToolGrant::default()).is_some() {
                return Err(entry.wrong(format!("the list names `{kind}` twice")));
            }
        }
        return Ok(ServerToolGrants(grants));
    };
    for tool in section.entries() {
        let kind = tool.key.parse().map_err(|why| tool.wrong_name(why).with_advice(HINT))?;
        grants.insert(kind, bounds(&tool)?);
    }
    Ok(ServerToolGrants(grants))
}

/// Reads the bounds of one tool.
fn bounds(tool: &TomlEntry<'_>) -> Result<ServerToolGrant, FileError> {
    let section = tool.section().map_err(|error| error.with_advice(HINT))?;
    section.only(&["max-uses", "allowed-domains", "blocked-domains"])?;
    let domains = |key| match section.get(key) {
        None => Ok(Vec::new()),
        Some(entry) => match entry.list_as(str::parse::<Domain>)? {
            domains if domains.is_empty() => Err(entry.wrong("the list is empty").with_advice(EMPTY)),
            domains => Ok(domains),
        },
    };
    let bounds = ServerToolGrant {
        max_uses: section.number_as("max-uses", uses)?,
        allowed_domains: domains("allowed-domains")?,
        blocked_domains: domains("blocked-domains")?,
    };
    bounds.check().map_err(|why| tool.wrong(why))?;
    Ok(bounds)
}

fn uses(text: &str) -> Result<u32, String> {
    let uses = parse_count(text)?;
    let within = u32::try_from(uses).ok().filter(|uses| (1..=MOST_USES).contains(uses));
    within.ok_or_else(|| format!("`{text}` is not a number from 1 to {MOST_USES}"))
}
