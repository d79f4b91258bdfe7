//! The tools that a request offers to a model: their definitions, and the model's choice among them.
//!
//! A tool is code of the guest. The host only carries its definition to the model and the model's calls back; it runs
//! none of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::option_value::read_json;

/// The most tools of one request. OpenAI accepts 128; more of them make every model choose badly.
const MAX_TOOLS: usize = 128;
/// The most bytes of a tool's name, as both vendors set it.
const MAX_NAME_BYTES: usize = 64;

/// One tool, as the model reads it.
///
/// ```
/// use agenthost_core::llm::ToolDefinition;
///
/// let tools = r#"[{"name": "weather", "description": "The weather today", "parameters": {"type": "object"}}]"#;
/// assert_eq!(ToolDefinition::read_list(tools)?[0].name, "weather");
/// let unnamed = r#"[{"name": "", "parameters": {"type": "object"}}]"#;
/// assert!(ToolDefinition::read_list(unnamed).is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolDefinition {
    /// The name: letters, digits, `_` and `-`, at most 64 bytes, unique in the request.
    pub name: String,
    /// A description of the tool for the model.
    #[serde(default)]
    pub description: String,
    /// The JSON Schema of the arguments, which are an object.
    pub parameters: Value,
    /// `true` if the provider shall guarantee that the arguments satisfy the schema, as far as it can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

impl ToolDefinition {
    /// Reads the value of the option `tools`.
    ///
    /// # Errors
    ///
    /// Returns the reason if it is not a list of 1 to 128 tools with different names.
    pub fn read_list(text: &str) -> Result<Vec<Self>, String> {
        let tools: Vec<Self> = read_json("tools", "a list of tools", text)?;
        if tools.is_empty() || tools.len() > MAX_TOOLS {
            return Err(format!(
                "option `tools` has {} tools; 1 to {MAX_TOOLS} are possible",
                tools.len()
            ));
        }
        for (index, tool) in tools.iter().enumerate() {
            tool.check()?;
            if tools.iter().take(index).any(|other| other.name == tool.name) {
                return Err(format!("option `tools` has two tools with the name `{}`", tool.name));
            }
        }
        Ok(tools)
    }

    fn check(&self) -> Result<(), String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES || !self.name.chars().all(fits) {
            return Err(format!(
                "{:?} is not the name of a tool, which has 1 to {MAX_NAME_BYTES} letters, digits, `_` and `-`",
                self.name
            ));
        }
        // Both vendors refuse any other schema.
        if self.parameters.get("type").and_then(Value::as_str) != Some("object") {
            return Err(format!(
                "the parameters of tool `{}` are not a JSON Schema with \"type\": \"object\"",
                self.name
            ));
        }
        Ok(())
    }

    /// Returns the bytes that the model reads.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.description.len() + self.parameters.to_string().len()
    }
}

/// The model's choice among the tools of a request.
///
/// ```
/// use agenthost_core::llm::ToolChoice;
///
/// assert_eq!(ToolChoice::read("tool:weather"), Ok(ToolChoice::Tool("weather".to_owned())));
/// assert!(ToolChoice::read("weather").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ToolChoice {
    /// The model calls tools if it wants to; this is the default.
    Auto,
    /// The model calls no tool.
    None,
    /// The model calls at least one tool.
    Any,
    /// The model calls this tool.
    Tool(String),
}

impl ToolChoice {
    /// Reads the value of the option `tool-choice`.
    ///
    /// # Errors
    ///
    /// Returns the known values if it is none of them.
    pub fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "any" => Ok(Self::Any),
            _ => match text.strip_prefix("tool:") {
                Some(name) if !name.is_empty() => Ok(Self::Tool(name.to_owned())),
                _ => Err(format!(
                    "option `tool-choice` is auto, none, any or tool:NAME, not `{text}`"
                )),
            },
        }
    }

    /// Returns whether the model has to call a tool.
    pub fn is_forced(&self) -> bool {
        matches!(self, Self::Any | Self::Tool(_))
    }
}
