//! The parts of OpenAI's two APIs that are the same: names, schemas, token counts and errors.

use agenthost_core::llm::extension::ToolArguments;
use agenthost_core::llm::{Options, ProviderError, Thinking, ToolCall, ToolResult, Usage};
use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::http::{BASE_URL, Endpoint, HttpResponse, count, detail};
use super::schema::{self, Dialect};
use super::tools;

/// The vendor's own address.
pub(crate) const ADDRESS: &str = "https://api.openai.com/v1";

/// Returns the service's id of an exchange.
pub(crate) fn request_id(answer: &HttpResponse) -> Option<String> {
    let header = answer.headers.get("x-request-id");
    header.and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Returns the amount of reasoning to ask for. The API has no other modes than none.
pub(crate) fn effort(options: &Options) -> Option<&'static str> {
    match options.thinking {
        Some(Thinking::Off) => Some("none"),
        // The API defines all names of efforts; the service decides which of them a model supports.
        Some(Thinking::Adaptive | Thinking::BetweenTools) | None => options.effort.map(|effort| effort.name()),
    }
}

/// Converts the schema's title to a name that the API allows: `[A-Za-z0-9_-]{1,64}`.
pub(crate) fn schema_name(schema: Option<&Value>) -> String {
    let title = schema.and_then(|schema| schema.get("title")?.as_str());
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = title.unwrap_or_default().chars().take(64).map(fit).collect();
    if name.trim_matches('_').is_empty() {
        "reply".to_owned()
    } else {
        name
    }
}

/// Returns the definition of each tool. `strict` is always written, because the two APIs have different defaults.
pub(crate) fn functions(options: &Options) -> impl Iterator<Item = Map<String, Value>> + '_ {
    options.tools.iter().map(|tool| {
        let strict = tools::strict(tool, Dialect::OpenAi);
        let is_strict = strict.is_some();
        let mut parameters = strict.map_or_else(|| tool.parameters.clone(), |fitted| fitted.schema);
        if let Some(members) = parameters.as_object_mut() {
            // The vendor refuses an object without the member.
            members.entry("properties").or_insert_with(|| json!({}));
        }
        let mut function = Map::from_iter([("name".to_owned(), json!(tool.name))]);
        if !tool.description.is_empty() {
            function.insert("description".into(), json!(tool.description));
        }
        function.insert("parameters".into(), parameters);
        function.insert("strict".into(), json!(is_strict));
        function
    })
}

/// Returns the text of a result. The APIs have no mark for a failed call.
pub(crate) fn result_text(result: &ToolResult) -> String {
    match result.is_error {
        true => format!("Error: {}", result.content),
        false => result.content.clone(),
    }
}

/// A call in a reply.
pub(crate) struct CallInReply<'a> {
    /// The vendor's form.
    pub(crate) block: &'a Value,
    /// The member of `block` with the id.
    pub(crate) id_member: &'static str,
    /// The object with the name and the arguments.
    pub(crate) function: &'a Value,
    /// Writes the vendor's form of the neutral one.
    pub(crate) rebuild: fn(&ToolCall) -> Value,
}

impl CallInReply<'_> {
    /// Adds the call to `draft`.
    ///
    /// # Errors
    ///
    /// Returns the reason if the call is incomplete.
    pub(crate) fn read(&self, draft: &mut Draft<'_>) -> Result<(), &'static str> {
        let name = self.function.get("name").and_then(Value::as_str);
        let name = name.ok_or("a tool call of the answer has no name")?;
        let given = self.block.get(self.id_member).and_then(Value::as_str);
        let id = draft.id(given);
        let written = self.function.get("arguments");
        let mut arguments = match written {
            None | Some(Value::Null) => ToolArguments::read(""),
            Some(Value::String(text)) => tools::arguments(text),
            // Some servers write the value itself.
            Some(value) => ToolArguments::read(&value.to_string()),
        };
        if let (ToolArguments::Object(members), Some(parameters)) = (&mut arguments, draft.strict_parameters(name)) {
            // A strict schema has no other way to omit a property.
            let mut value = Value::Object(std::mem::take(members));
            schema::without_nulls(parameters, &mut value);
            if let Value::Object(kept) = value {
                *members = kept;
            }
        }
        // Only the form of the API can go back.
        let is_sound = given == Some(&id) && written.is_some_and(Value::is_string);
        let block = Some(self.block).filter(|_| is_sound);
        draft.tool_call(id, name, arguments, block, self.rebuild);
        Ok(())
    }
}

/// Returns the token counts of a body; `None` if there are none. The APIs include cached input in the input.
pub(crate) fn usage(body: &Value) -> Option<Usage> {
    let usage = body.get("usage")?;
    let number = |names: [&str; 2]| names.iter().find_map(|name| usage.get(name).and_then(count));
    let input = number(["prompt_tokens", "input_tokens"]);
    let output = number(["completion_tokens", "output_tokens"]);
    let total = usage.get("total_tokens").and_then(count).unwrap_or(0);
    // A request always has input; some servers report zeros if they did not count.
    let input = match (input, output) {
        (Some(input), Some(_)) => input,
        (None, Some(output)) => total.checked_sub(output)?,
        _ => return None,
    };
    let input = Some(input).filter(|input| *input > 0)?;
    // Some services leave reasoning out of `completion_tokens` and count it only in the total, but bill for it all the
    // same.
    let output = output?.max(total.saturating_sub(input));
    let details = |names: [&str; 2], member: &str| {
        let details = names.iter().find_map(|name| usage.get(name));
        details.and_then(|details| details.get(member)).cloned()
    };
    let of_input = |member: &str| details(["prompt_tokens_details", "input_tokens_details"], member);
    let of_output = |member: &str| details(["completion_tokens_details", "output_tokens_details"], member);
    let cached_input = detail(of_input("cached_tokens").as_ref(), input);
    Some(Usage {
        input,
        cached_input,
        cache_write_input: detail(of_input("cache_write_tokens").as_ref(), input - cached_input),
        output,
        reasoning_output: detail(of_output("reasoning_tokens").as_ref(), output),
        searches: 0,
    })
}

/// Adds the address that was asked, unless the service only lacks the model. `path` is the end of the usual address.
pub(crate) fn with_address(endpoint: &Endpoint, mut error: ProviderError, path: &str) -> ProviderError {
    if error.message.to_ascii_lowercase().contains("model") {
        return error;
    }
    let address = endpoint.address();
    let usual = if address.ends_with(path) || address.contains("/deployments/") {
        ""
    } else {
        "; the base-url of most such services ends in /v1"
    };
    error.message = format!("{}; the address was {address}{usual}", error.message);
    error.setting = Some(BASE_URL);
    error
}
