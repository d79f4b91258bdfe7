//! Determines whether a plugin takes a list of items, and whether it returns a result for each, by its types.

use serde_json::Value;

use agenthost::Plugin;
use agenthost::batch::tasks::Shape;
use agenthost::error::{Error, Result};

/// Returns how items become inputs, with or without `--size`.
pub(super) fn of(plugin: &Plugin, size: Option<u64>) -> Result<Shape> {
    match size {
        None => Ok(Shape::Whole),
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
        Shape::List => follow(&schema, input.get("items")?),
        Shape::Field(field) => {
            let list = follow(&schema, input.get("properties")?.get(field)?);
            follow(&schema, list.get("items")?)
        }
    };
    fields(item)
}

/// Returns the names of the fields of an item's output, or an empty list unless it is a record.
pub(super) fn output_fields(plugin: &Plugin, grouped: bool) -> Vec<String> {
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
