//! Determines whether a plugin takes a list of items, and whether it returns a result for each, by its types.

use serde_json::{Map, Value};

use crate::run::read_text;
use agenthost::batch::tasks::Shape;
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::{Host, Plugin};
use agenthost_sdk::template::fill;

/// The built-in plugin whose task is a template for the fields of an item.
const MAP: &str = "agenthost:map";

/// Returns how items become inputs, with or without `--size`.
pub(super) fn of(plugin: &Plugin, size: Option<u64>) -> Result<Shape> {
    match size {
        None => Ok(item_field(plugin).map_or(Shape::Whole, Shape::Item)),
        Some(_) => list(plugin).ok_or_else(|| {
            Error::usage(format!(
                "--size: {} takes neither a list nor a record that needs nothing but one list",
                plugin.id().name
            ))
            .with_hint(format!(
                "Leave out --size, and give inputs of this form as items: {}",
                plugin.sample_input()
            ))
        }),
    }
}

/// Returns `item` if that is a field of the input that takes any JSON: the whole item then is this field.
fn item_field(plugin: &Plugin) -> Option<String> {
    /// The name of the field.
    const ITEM: &str = "item";
    let schema = plugin.info().input_schema().ok()?;
    let field = follow(&schema, &schema).get("properties")?.get(ITEM)?;
    let field = follow(&schema, field);
    let takes_anything = ["type", "anyOf", "oneOf", "enum", "const"]
        .iter()
        .all(|key| field.get(key).is_none());
    takes_anything.then(|| ITEM.to_owned())
}

/// A field of `--set`, with its text or that of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetField {
    pub(super) name: String,
    pub(super) text: String,
}

/// Reads `--set FIELD=VALUE` and the files that they name.
pub(super) fn read_set(given: &[String], env: &Env) -> Result<Vec<SetField>> {
    let mut fields: Vec<SetField> = Vec::new();
    for given in given {
        let Some((name, text)) = given.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Error::usage(format!("--set {given}: not of the form FIELD=VALUE"))
                .with_hint("For example --set task=\"Classify: {{subject}}\", or --set schema=@label.schema.json"));
        };
        if fields.iter().any(|field| field.name == name) {
            return Err(Error::usage(format!("--set {name}: given twice")).with_hint("Give each field once."));
        }
        let text = match text.strip_prefix('@') {
            Some(file) => read_text(&env.cwd().join(file), &format!("--set {name}=@{file}"))?,
            None => text.to_owned(),
        };
        let name = name.to_owned();
        fields.push(SetField { name, text });
    }
    Ok(fields)
}

/// Returns the fields as the plugin takes them: JSON, or else a text; the value of a text field is always a text. What is
/// wrong with them is found here, and not for each item.
pub(super) fn set(host: &Host, plugin: &Plugin, shape: &Shape, fields: &[SetField]) -> Result<Map<String, Value>> {
    let schema = plugin.info().input_schema()?;
    let known = follow(&schema, &schema).get("properties").and_then(Value::as_object);
    let value = |SetField { name, text }: &SetField| {
        let Some(field) = known.and_then(|known| known.get(name)) else {
            let names: Vec<_> = known.into_iter().flat_map(Map::keys).map(String::as_str).collect();
            return Err(
                Error::usage(format!("--set {name}: {} has no such field", plugin.id().name)).with_hint(
                    match names.as_slice() {
                        [] => "Its input is not a record: leave out --set.".to_owned(),
                        names => format!("Name one of its fields: {}.", names.join(", ")),
                    },
                ),
            );
        };
        let json = match is_text(&schema, field) {
            true => None,
            false => serde_json::from_str(text).ok(),
        };
        Ok((name.clone(), json.unwrap_or_else(|| Value::String(text.clone()))))
    };
    let set = fields.iter().map(value).collect::<Result<Map<_, _>>>()?;
    if let Shape::Item(items) | Shape::Field(items) = shape
        && set.contains_key(items)
    {
        return Err(Error::usage(format!("--set {items}: the items are this field")).with_hint("Leave it out."));
    }
    if let Shape::Item(item) = shape {
        let mut input = set.clone();
        input.insert(item.clone(), Value::Null);
        plugin.check_input(&Value::Object(input)).map_err(|error| {
            Error::usage(format!("the fields of --set do not fit: {}", error.message()))
                .with_hint(format!("An input has this form: {}", plugin.sample_input()))
        })?;
    }
    if plugin.id().name == MAP {
        check_map(host, &set)?;
    }
    Ok(set)
}

/// Checks the fields of `agenthost:map` that are the same for all items.
fn check_map(host: &Host, set: &Map<String, Value>) -> Result<()> {
    if let Some(schema) = set.get("schema") {
        Host::check_schema(&schema.to_string()).map_err(|problem| {
            Error::input(format!("--set schema: {problem}"))
                .with_hint("Give a JSON Schema, such as --set schema='{\"type\": \"object\", …}', or @FILE with one.")
        })?;
    }
    let text = |name: &str| set.get(name).and_then(Value::as_str);
    let models = host.config().models();
    if let Some(name) = text("model").filter(|name| !models.contains_key(*name)) {
        let known: Vec<_> = models.keys().map(String::as_str).collect();
        return Err(Error::config(format!(
            "--set model: no model is named `{name}`: [models] has {}",
            known.join(", ")
        ))
        .with_hint("Map the name there, or name another model."));
    }
    if text("task").is_some_and(|task| fill(task, &Value::Object(Map::new())).is_ok()) {
        return Err(
            Error::usage("--set task: the task names no column, so every item would get the same answer")
                .with_hint("Write {{COLUMN}} where a field of the item belongs, as in \"Classify: {{subject}}\"."),
        );
    }
    Ok(())
}

/// Returns whether a field takes texts and no other value than `null`.
fn is_text(schema: &Value, field: &Value) -> bool {
    let field = follow(schema, field);
    if let Some(cases) = field.get("anyOf").and_then(Value::as_array) {
        return cases.iter().all(|case| {
            let case = follow(schema, case);
            case.get("type").is_some_and(|kind| kind == "null") || is_text(schema, case)
        });
    }
    match field.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().all(|kind| kind == "string" || kind == "null"),
        kind => kind.is_some_and(|kind| kind == "string"),
    }
}

pub(super) fn takes_a_list(plugin: &Plugin) -> bool {
    list(plugin).is_some()
}

fn list(plugin: &Plugin) -> Option<Shape> {
    let schema = plugin.info().input_schema().unwrap_or_default();
    let input = follow(&schema, &schema);
    let fields = input.get("properties").and_then(Value::as_object);
    let lists = fields.into_iter().flatten().filter_map(|(name, field)| {
        let of_list = follow(&schema, field).get("type")?.as_str()? == "array";
        of_list.then_some(name.as_str())
    });
    Shape::of_list(lists, |input| plugin.check_input(input).is_ok())
}

/// Returns whether the output is a list of WIT results.
pub(super) fn gives_results(plugin: &Plugin) -> bool {
    let schema = plugin.info().output_schema().unwrap_or_default();
    let Some(item) = follow(&schema, &schema).get("items") else {
        return false;
    };
    let cases = follow(&schema, item).get("anyOf").and_then(Value::as_array);
    let names: Vec<&str> = cases
        .into_iter()
        .flatten()
        .filter_map(|case| {
            let fields = case.get("properties")?.as_object()?;
            fields.keys().next().filter(|_| fields.len() == 1).map(String::as_str)
        })
        .collect();
    names == ["ok", "err"]
}

/// Returns the names of the fields of an item; `None` if an item is not a record.
pub(super) fn input_fields(plugin: &Plugin, shape: &Shape) -> Option<Vec<String>> {
    let schema = plugin.info().input_schema().ok()?;
    let input = follow(&schema, &schema);
    let item = match shape {
        Shape::Whole => input,
        Shape::Item(_) => return None,
        Shape::List => follow(&schema, input.get("items")?),
        Shape::Field(field) => {
            let list = follow(&schema, input.get("properties")?.get(field)?);
            follow(&schema, list.get("items")?)
        }
    };
    fields(item)
}

/// Checks an input by the plugin's type; for `agenthost:map`, the item must also have the fields that the task names.
pub(super) fn check(plugin: &Plugin, input: &Value) -> std::result::Result<(), String> {
    plugin.check_input(input).map_err(|error| error.message().to_owned())?;
    let task = input.get("task").and_then(Value::as_str);
    if let (MAP, Some(task), Some(item)) = (plugin.id().name.as_str(), task, input.get("item")) {
        fill(task, item).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Returns the names of the fields of an item's output, or an empty list unless it is a record. The output of
/// `agenthost:map` is a record if its JSON Schema in `set` describes one.
pub(super) fn output_fields(plugin: &Plugin, grouped: bool, set: &Map<String, Value>) -> Vec<String> {
    if let (MAP, Some(schema)) = (plugin.id().name.as_str(), set.get("schema")) {
        return fields(follow(schema, schema)).unwrap_or_default();
    }
    let schema = plugin.info().output_schema().unwrap_or_default();
    let mut output = follow(&schema, &schema);
    if let Some(item) = output.get("items").filter(|_| grouped) {
        output = follow(&schema, item);
        if gives_results(plugin) {
            let ok = output.pointer("/anyOf/0/properties/ok");
            output = ok.map_or(output, |ok| follow(&schema, ok));
        }
    }
    fields(output).unwrap_or_default()
}

fn fields(record: &Value) -> Option<Vec<String>> {
    let fields = record.get("properties")?.as_object()?;
    Some(fields.keys().cloned().collect())
}

/// Resolves references in a JSON Schema.
fn follow<'s>(root: &'s Value, mut node: &'s Value) -> &'s Value {
    // A type may be another name of another name; the number of steps is bounded.
    for _ in 0..100 {
        let name = node.get("$ref").and_then(Value::as_str);
        let definition = name
            .and_then(|name| name.strip_prefix("#/$defs/"))
            .and_then(|name| root.get("$defs")?.get(name));
        match definition {
            Some(definition) => node = definition,
            None => break,
        }
    }
    node
}
