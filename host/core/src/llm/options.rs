//! The settings of a request that the contract has no field for.

use super::option_value::read_json;
use super::server_tool::ServerTool;
use super::tool::{ToolChoice, ToolDefinition};

/// The most stop sequences of one request, which is OpenAI's limit.
const MAX_STOPS: usize = 4;

/// The amount of reasoning, if the model supports the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the cases are the vendors' own words")]
pub enum Effort {
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    /// Returns the name, which all wires use.
    ///
    /// ```
    /// use agenthost_core::llm::Effort;
    ///
    /// assert_eq!(Effort::Xhigh.name(), "xhigh");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}

/// The time for which the provider should cache the prompt's prefix, if it supports the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheTtl {
    /// Five minutes, the vendors' default.
    FiveMinutes,
    /// One hour.
    OneHour,
}

/// The mode of reasoning, if the model supports the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thinking {
    /// The model decides how much it thinks.
    Adaptive,
    /// The model does not think.
    Off,
    /// The model thinks only between the calls of tools.
    BetweenTools,
}

/// Further settings of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `effort`: `low`, `medium`, `high`, `xhigh` or `max`.
    pub effort: Option<Effort>,
    /// `cache`: `5m` or `1h`.
    pub cache: Option<CacheTtl>,
    /// `tools`: a list of tools, as JSON.
    pub tools: Vec<ToolDefinition>,
    /// `tool-choice`: `auto`, `none`, `any` or `tool:NAME`.
    pub tool_choice: Option<ToolChoice>,
    /// `parallel-tools`: `true` if the model may call several tools in one reply, which is the default.
    pub parallel_tools: Option<bool>,
    /// `server-tools`: a list of tools that the provider runs, as JSON.
    pub server_tools: Vec<ServerTool>,
    /// `stop`: a list of texts at which the model stops, as JSON.
    pub stop: Vec<String>,
    /// `thinking`: `adaptive`, `off` or `between-tools`.
    pub thinking: Option<Thinking>,
}

impl Options {
    /// Parses the contract's name and value pairs. An unknown name or value is an error that lists the known ones.
    ///
    /// ```
    /// use agenthost_core::llm::{Effort, Options};
    ///
    /// assert_eq!(Options::parse([("effort", "low")])?.effort, Some(Effort::Low));
    /// assert!(Options::parse([("mood", "good")]).is_err());
    /// assert!(Options::parse([("tool-choice", "any")]).is_err_and(|why| why.contains("`tools`")));
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason if a name or a value is not known, or if an option needs another one.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in pairs {
            match name {
                "effort" => options.effort = Some(effort(value)?),
                "cache" => {
                    options.cache = Some(match value {
                        "5m" => CacheTtl::FiveMinutes,
                        "1h" => CacheTtl::OneHour,
                        _ => return Err(format!("option `cache` is 5m or 1h, not `{value}`")),
                    });
                }
                "tools" => options.tools = ToolDefinition::read_list(value)?,
                "tool-choice" => options.tool_choice = Some(ToolChoice::read(value)?),
                "parallel-tools" => {
                    options.parallel_tools = Some(match value {
                        "true" => true,
                        "false" => false,
                        _ => return Err(format!("option `parallel-tools` is true or false, not `{value}`")),
                    });
                }
                "server-tools" => options.server_tools = ServerTool::read_list(value)?,
                "stop" => options.stop = stop(value)?,
                "thinking" => {
                    options.thinking = Some(match value {
                        "adaptive" => Thinking::Adaptive,
                        "off" => Thinking::Off,
                        "between-tools" => Thinking::BetweenTools,
                        _ => {
                            return Err(format!(
                                "option `thinking` is adaptive, off or between-tools, not `{value}`"
                            ));
                        }
                    });
                }
                _ => {
                    return Err(format!(
                        "unknown option `{name}`; the known ones are effort, cache, tools, tool-choice, \
                         parallel-tools, server-tools, stop and thinking"
                    ));
                }
            }
        }
        options.check()?;
        Ok(options)
    }

    /// Checks the options that depend on each other.
    fn check(&self) -> Result<(), String> {
        if self.tools.is_empty() {
            let without = [
                ("tool-choice", self.tool_choice.is_some()),
                ("parallel-tools", self.parallel_tools.is_some()),
            ];
            if let Some((name, _)) = without.into_iter().find(|(_, is_set)| *is_set) {
                return Err(format!("option `{name}` needs the option `tools`"));
            }
        }
        if let Some(ToolChoice::Tool(chosen)) = &self.tool_choice
            && !self.tools.iter().any(|tool| tool.name == *chosen)
        {
            let names: Vec<_> = self.tools.iter().map(|tool| tool.name.as_str()).collect();
            return Err(format!(
                "option `tool-choice` names the tool `{chosen}`, and `tools` has {}",
                names.join(", ")
            ));
        }
        let reserved = |tool: &&ToolDefinition| {
            self.server_tools
                .iter()
                .any(|server| server.kind.wire_name() == tool.name)
        };
        if let Some(tool) = self.tools.iter().find(reserved) {
            return Err(format!(
                "the tool `{}` has the name of a tool of the provider",
                tool.name
            ));
        }
        if self.thinking == Some(Thinking::Off) && self.effort.is_some() {
            return Err("option `effort` has no meaning with the option `thinking` = off".to_owned());
        }
        Ok(())
    }

    /// Returns whether the model's blocks have to be sent back as they came, because the conversation goes on.
    pub fn keeps_blocks(&self) -> bool {
        !self.tools.is_empty() || !self.server_tools.is_empty()
    }
}

fn effort(value: &str) -> Result<Effort, String> {
    Ok(match value {
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" => Effort::Xhigh,
        "max" => Effort::Max,
        _ => {
            return Err(format!(
                "option `effort` is low, medium, high, xhigh or max, not `{value}`"
            ));
        }
    })
}

fn stop(value: &str) -> Result<Vec<String>, String> {
    let texts: Vec<String> = read_json("stop", "a list of texts", value)?;
    if texts.is_empty() || texts.len() > MAX_STOPS || texts.iter().any(String::is_empty) {
        return Err(format!(
            "option `stop` is a list of 1 to {MAX_STOPS} texts that are not empty"
        ));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_invalid_option_is_refused_with_the_valid_ones() {
        let tools = r#"[{"name": "a", "parameters": {"type": "object"}}]"#;
        for (pairs, expected) in [
            (vec![("stop", "END")], "option `stop` is not a list of texts"),
            (vec![("stop", "[]")], "a list of 1 to 4 texts"),
            (vec![("stop", r#"["a", ""]"#)], "a list of 1 to 4 texts"),
            (vec![("thinking", "on")], "adaptive, off or between-tools, not `on`"),
            (
                vec![("thinking", "off"), ("effort", "low")],
                "option `effort` has no meaning",
            ),
            (vec![("tools", "[]")], "option `tools` has 0 tools"),
            (vec![("tools", "{}")], "option `tools` is not a list of tools"),
            (
                vec![("tools", r#"[{"name": "a b", "parameters": {"type": "object"}}]"#)],
                "not the name of a tool",
            ),
            (
                vec![("tools", r#"[{"name": "a", "parameters": {"type": "array"}}]"#)],
                "\"type\": \"object\"",
            ),
            (
                vec![("tools", r#"[{"name": "a", "type": "web_search_20250305"}]"#)],
                "unknown field `type`",
            ),
            (
                vec![("tools", tools), ("tool-choice", "tool:b")],
                "names the tool `b`, and `tools` has a",
            ),
            (
                vec![("tools", tools), ("tool-choice", "b")],
                "auto, none, any or tool:NAME",
            ),
            (
                vec![("tools", tools), ("parallel-tools", "no")],
                "true or false, not `no`",
            ),
            (vec![("parallel-tools", "true")], "needs the option `tools`"),
            (
                vec![
                    ("tools", r#"[{"name": "web_search", "parameters": {"type": "object"}}]"#),
                    ("server-tools", r#"[{"kind": "web-search"}]"#),
                ],
                "has the name of a tool of the provider",
            ),
            (vec![("server-tools", "[]")], "option `server-tools` has no tool"),
        ] {
            let why = Options::parse(pairs.clone()).unwrap_err();
            assert!(why.contains(expected), "{pairs:?}: {why}");
        }
        let options = Options::parse([("tools", tools), ("tool-choice", "tool:a"), ("stop", r#"["END"]"#)]).unwrap();
        assert_eq!(options.tool_choice, Some(ToolChoice::Tool("a".to_owned())));
        assert_eq!(options.stop, ["END"]);
        assert!(options.keeps_blocks() && !Options::default().keeps_blocks());
    }
}
