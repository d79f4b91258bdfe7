//! The tools of a request, as far as the wires agree on them.

use agenthost_core::llm::ToolDefinition;
use agenthost_core::llm::extension::ToolArguments;
use serde_json::Value;

use super::mend;
use super::schema::{self, Dialect};

/// The parameters of a tool as a vendor receives them.
#[derive(Debug)]
pub(crate) struct Parameters {
    /// The schema.
    pub(crate) schema: Value,
    /// `true` if the vendor shall enforce the schema.
    pub(crate) is_strict: bool,
}

impl Parameters {
    /// Returns the parameters of `tool`. A schema that the vendor cannot enforce is sent as it is, and the guest still
    /// validates the arguments.
    pub(crate) fn of(tool: &ToolDefinition, dialect: Dialect) -> Self {
        let fitted = tool
            .strict
            .then(|| schema::fit(&tool.parameters, dialect).ok())
            .flatten();
        Self {
            is_strict: fitted.is_some(),
            schema: fitted.unwrap_or_else(|| tool.parameters.clone()),
        }
    }
}

/// Reads the text of a call's arguments, with the faults mended that have only one meaning.
pub(crate) fn arguments(text: &str) -> ToolArguments {
    match ToolArguments::read(&mend::mended(text)) {
        ToolArguments::Invalid(_) => ToolArguments::Invalid(text.to_owned()),
        read @ ToolArguments::Object(_) => read,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_that_cannot_be_enforced_is_sent_as_it_is() {
        let tool = |parameters: Value, strict| ToolDefinition {
            name: "a".into(),
            description: String::new(),
            parameters,
            strict,
        };
        let open = json!({"type": "object", "additionalProperties": {"type": "string"}});
        let closed = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}});
        for (parameters, strict, is_strict) in [(&open, true, false), (&closed, true, true), (&closed, false, false)] {
            let sent = Parameters::of(&tool(parameters.clone(), strict), Dialect::OpenAi);
            assert_eq!(sent.is_strict, is_strict);
            assert_eq!(sent.schema == *parameters, !is_strict, "{parameters}");
        }
    }

    #[test]
    fn arguments_are_mended_if_that_makes_them_valid() {
        assert_eq!(arguments("{\"a\": \"b\nc\"}").text(), r#"{"a":"b\nc"}"#);
        let cut = "{\"a\": \"b\nc";
        assert_eq!(arguments(cut), ToolArguments::Invalid(cut.to_owned()));
    }
}
