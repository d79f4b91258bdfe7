//! The tools of a request, as far as the wires agree on them.

use super::mend;
use super::schema::{self, Dialect, Fitted};
use agenthost_core::llm::ToolDefinition;
use agenthost_core::llm::extension::ToolArguments;

/// Returns the schema of a tool's parameters that the vendor shall enforce; `None` if it need not or cannot enforce one. Then
/// the schema is sent as it is, and the guest still validates the arguments.
pub(crate) fn strict(tool: &ToolDefinition, dialect: Dialect) -> Option<Fitted> {
    let fitted = tool.strict.then(|| schema::fit_counted(&tool.parameters, dialect).ok());
    fitted.flatten()
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
    use serde_json::{Value, json};

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
            let sent = super::strict(&tool(parameters.clone(), strict), Dialect::OpenAi);
            assert_eq!(sent.is_some(), is_strict, "{parameters}");
        }
    }

    #[test]
    fn arguments_are_mended_if_that_makes_them_valid() {
        assert_eq!(arguments("{\"a\": \"b\nc\"}").text(), r#"{"a":"b\nc"}"#);
        let cut = "{\"a\": \"b\nc";
        assert_eq!(arguments(cut), ToolArguments::Invalid(cut.to_owned()));
    }
}
