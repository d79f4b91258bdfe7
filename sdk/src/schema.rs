//! The JSON Schemas of Rust types: of structured replies, and of the arguments of tools.
//!
//! Subschemas are inlined unless a type is recursive, because not every model service follows references. Left out:
//! checking values against a schema, which the host does for replies and serde for arguments.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

/// Returns the JSON Schema of a type, for [`Prompt::schema`](crate::Prompt::schema) and for sub-agents that take a
/// schema. Subschemas are inlined unless the type is recursive, because not every model service follows references.
///
/// ```
/// let schema = agenthost_sdk::json_schema::<Vec<bool>>();
/// assert!(schema.contains(r#""items":{"type":"boolean"}"#), "{schema}");
/// ```
#[must_use]
pub fn json_schema<T: JsonSchema>() -> String {
    root::<T>().to_string()
}

/// The schema of a tool's arguments, which are an object for every model service, and how the value of a type is found
/// in them.
pub(crate) struct Parameters {
    pub(crate) schema: Value,
    pub(crate) place: Place,
}

/// The place of a value in the arguments of a call.
pub(crate) enum Place {
    /// The type is an object: the value is the arguments.
    Arguments,
    /// The type is not an object: the value is the only member, with this name.
    Member(String),
    /// The type is `()`: a call has no arguments.
    Nowhere,
}

impl Parameters {
    /// Returns the schema of `T`. If `T` is not an object, it becomes the member `name` of one.
    pub(crate) fn of<T: JsonSchema>(name: &str) -> Parameters {
        let schema = root::<T>();
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => Parameters {
                schema,
                place: Place::Arguments,
            },
            Some("null") => Parameters {
                schema: json!({"type": "object", "properties": {}, "additionalProperties": false}),
                place: Place::Nowhere,
            },
            _ => Parameters {
                schema: with_member::<T>(name),
                place: Place::Member(name.to_owned()),
            },
        }
    }
}

/// Returns the schema of an object with a `T` as its only member.
fn with_member<T: JsonSchema>(name: &str) -> Value {
    let mut generator = generator();
    let member = generator.subschema_for::<T>();
    let mut schema = json!({
        "type": "object",
        "properties": {name: member},
        "required": [name],
        "additionalProperties": false,
    });
    let definitions = generator.take_definitions(true);
    if let (Some(schema), false) = (schema.as_object_mut(), definitions.is_empty()) {
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator()
}

fn root<T: JsonSchema>() -> Value {
    generator().into_root_schema_for::<T>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk_macros::JsonSchema;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Tree {
        Leaf(u8),
        Node(Vec<Tree>),
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Query {
        /// A few words.
        words: String,
    }

    #[test]
    fn an_object_is_its_own_schema() {
        let parameters = Parameters::of::<Query>("input");
        assert!(matches!(parameters.place, Place::Arguments));
        assert_eq!(parameters.schema["properties"]["words"]["description"], "A few words.");
    }

    #[test]
    fn another_value_is_the_only_member_of_an_object() {
        let parameters = Parameters::of::<Vec<String>>("names");
        assert!(matches!(parameters.place, Place::Member(name) if name == "names"));
        let expected = json!({
            "type": "object",
            "properties": {"names": {"type": "array", "items": {"type": "string"}}},
            "required": ["names"],
            "additionalProperties": false,
        });
        assert_eq!(parameters.schema, expected);
    }

    #[test]
    fn the_unit_is_no_arguments() {
        let parameters = Parameters::of::<()>("input");
        assert!(matches!(parameters.place, Place::Nowhere));
        assert_eq!(parameters.schema["properties"], json!({}));
    }

    #[test]
    fn the_references_of_a_wrapped_type_lead_to_a_definition() {
        let schema = Parameters::of::<Tree>("input").schema;
        let text = schema.to_string();
        assert!(text.contains(r##""$ref":"#/$defs/Tree""##), "{text}");
        assert!(schema["$defs"]["Tree"]["oneOf"].is_array(), "{text}");
    }
}
