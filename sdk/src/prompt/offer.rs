//! The tools of one request: their names are unique and valid.

use serde_json::Value;

use crate::tool::Tool;

/// The most tools of a request.
const MAX_TOOLS: usize = 128;
const MAX_NAME: usize = 64;

/// Returns the tools with the names by which the model calls them: a tool that shares its name with another gets its
/// long name, if it has one.
pub(super) fn offer(tools: &[Tool]) -> Vec<Tool> {
    let is_shared = |tool: &Tool| tools.iter().filter(|other| other.name() == tool.name()).count() > 1;
    let offered = tools.iter().map(|tool| match tool.long_name() {
        Some(long) if is_shared(tool) => tool.clone().named(long),
        _ => tool.clone(),
    });
    offered.collect()
}

/// Returns the value of the option `tools`.
pub(super) fn option(offered: &[Tool]) -> String {
    Value::Array(offered.iter().map(Tool::definition).collect()).to_string()
}

/// Returns the reason why no model service takes these tools, if there is one.
pub(super) fn invalid(offered: &[Tool]) -> Option<String> {
    if offered.len() > MAX_TOOLS {
        return Some(format!("{} tools; a prompt can have {MAX_TOOLS}", offered.len()));
    }
    offered.iter().enumerate().find_map(|(index, tool)| {
        let name = tool.name();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_allowed) {
            return Some(format!(
                "invalid name of a tool: `{name}`; a name has 1 to {MAX_NAME} letters, digits, `-` and `_`"
            ));
        }
        let is_taken = offered.iter().take(index).any(|other| other.name() == name);
        is_taken.then(|| format!("two tools with the name `{name}`; give one another name with `Tool::named`"))
    })
}
