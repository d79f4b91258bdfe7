//! Inputs that are too long to be written down: schemas that a guest passes on to a model call.

use serde_json::json;

/// The input of this name, as JSON.
///
/// # Panics
///
/// If there is no such input.
pub fn input(name: &str) -> String {
    let schema = match name {
        // Each is small, and takes a megabyte once it is compiled.
        "patterns-many" => patterns(8_000, "x{30000}"),
        "patterns-some" => patterns(300, "\\\\w{40}"),
        "pattern-large" => patterns(1, "(((x{200}){200}){200})"),
        "nested" => format!(
            "{{\"items\":{}{}}}",
            "{\"items\":".repeat(10_000),
            "{}".to_owned() + &"}".repeat(10_000)
        ),
        "arrays" => format!("{{\"x\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000)),
        "references" => {
            let mut text = "{\"$ref\":\"#/$defs/a0\",\"$defs\":{".to_owned();
            for at in 0..20_000 {
                text += &format!(
                    "\"a{at}\":{{\"properties\":{{\"x\":{{\"$ref\":\"#/$defs/a{}\"}}}}}},",
                    at + 1
                );
            }
            text + "\"a20000\":{}}}"
        }
        "reference-to-itself" => {
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}})
                .to_string()
        }
        "large" => json!({"enum": [ "y".repeat(6 << 20) ]}).to_string(),
        // The check of a reply against it takes long.
        "unique" => json!({"type": "array", "uniqueItems": true}).to_string(),
        "branches" => {
            let mut schema = json!({"type": "integer"});
            for _ in 0..24 {
                schema = json!({"anyOf": [{"items": schema.clone()}, {"items": schema}]});
                if schema.to_string().len() > 40_000 {
                    break;
                }
            }
            schema.to_string()
        }
        other => panic!("no input is named {other}"),
    };
    json!(schema).to_string()
}

fn patterns(count: usize, pattern: &str) -> String {
    let properties: Vec<_> = (0..count)
        .map(|at| format!("\"a{at}\":{{\"pattern\":\"{pattern}{at}\"}}"))
        .collect();
    format!("{{\"type\":\"object\",\"properties\":{{{}}}}}", properties.join(","))
}
