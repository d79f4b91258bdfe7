//! Task templates: `Classify: {{subject}}` with a value for each name in double braces.
//!
//! ```
//! use agenthost_sdk::serde_json::json;
//! use agenthost_sdk::template::fill;
//!
//! let ticket = json!({"subject": "No hot water", "body": "Since Monday …\n".repeat(20)});
//! let filled = fill("Classify: {{subject}} {{body}}", &ticket)?;
//! assert_eq!(filled.text, "Classify: No hot water `body`");
//! assert_eq!(filled.attached[0].0, "body"); // for `Prompt::data`: it is material and no part of the task
//!
//! let error = fill("Classify: {{title}}", &ticket).unwrap_err();
//! assert_eq!(error.to_string(), "no value for `{{title}}`; there are `body`, `subject`");
//! # Ok::<(), agenthost_sdk::template::NoValue>(())
//! ```

use std::fmt;

use serde_json::Value;

/// A value that is longer than this, or has several lines, is attached and not written into the text.
const INLINE_BYTES: usize = 100;
/// The most characters of [`Filled::first`].
const FIRST_CHARS: usize = 60;

/// A template with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The text, with short values in their places, and the names of long ones.
    pub text: String,
    /// The long values with their names, each once, in the order of their first places.
    pub attached: Vec<(String, String)>,
    /// The value of the first name, cut to 60 characters; it tells the texts of one template apart. `None` if the
    /// template has no names.
    pub first: Option<String>,
}

/// A name in a template for which there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoValue {
    /// The name.
    pub name: String,
    /// The names that have values.
    pub known: Vec<String>,
}

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no value for `{{{{{}}}}}`", self.name)?;
        match self.known.as_slice() {
            [] => Ok(()),
            known => write!(f, "; there are `{}`", known.join("`, `")),
        }
    }
}

impl std::error::Error for NoValue {}

/// Writes the fields of `values` into the template. If `values` is not an object, its only name is `value`. Braces
/// around anything else, such as `{{ "a": 1 }}`, stay as they are.
///
/// # Errors
///
/// Returns the first name that has no value.
pub fn fill(template: &str, values: &Value) -> Result<Filled, NoValue> {
    let mut filled = Filled {
        text: String::new(),
        attached: Vec::new(),
        first: None,
    };
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.text.push_str(before);
        let braces = rest.get(before.len() + 1..).unwrap_or_default();
        let name = after
            .split_once("}}")
            .map(|(name, _)| name.trim())
            .filter(|name| is_name(name));
        let Some(name) = name else {
            filled.text.push('{');
            rest = braces;
            continue;
        };
        let value = match values {
            Value::Object(fields) => fields.get(name),
            value => (name == "value").then_some(value),
        };
        let value = match value {
            None => {
                return Err(NoValue {
                    name: name.to_owned(),
                    known: names(values),
                });
            }
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        let begin = || value.trim().chars().take(FIRST_CHARS).collect();
        filled.first.get_or_insert_with(begin);
        if value.len() <= INLINE_BYTES && !value.contains(char::is_control) {
            filled.text.push_str(&value);
        } else {
            filled.text.push_str(&format!("`{name}`"));
            if filled.attached.iter().all(|(known, _)| known != name) {
                filled.attached.push((name.to_owned(), value));
            }
        }
        rest = after.split_once("}}").map_or("", |(_, rest)| rest);
    }
    filled.text.push_str(rest);
    Ok(filled)
}

/// Returns whether a text between braces names a value: words as in the header of a table.
fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.');
    !text.is_empty() && text.chars().all(is_part)
}

fn names(values: &Value) -> Vec<String> {
    match values {
        Value::Object(fields) => {
            let mut names: Vec<_> = fields.keys().cloned().collect();
            names.sort();
            names
        }
        _ => vec!["value".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(template: &str, values: &Value) -> String {
        fill(template, values).map_or_else(|error| error.to_string(), |filled| filled.text)
    }

    #[test]
    fn names_are_replaced_and_other_braces_stay() {
        let row = json!({"name": "Acme", "Founded in": 1999, "gone": null, "tags": ["a"], "Größe": "XL"});
        assert_eq!(text("{{name}}: {{ Founded in }}{{gone}}", &row), "Acme: 1999");
        assert_eq!(text("{{tags}}{{Größe}}", &row), "[\"a\"]XL");
        let json = "answer as {{\"a\": {\"b\": 1}}} or {{}} or {{name";
        assert_eq!(text(json, &row), json);
        assert_eq!(text("{{{name}}}", &row), "{Acme}");
        assert_eq!(text("no names", &row), "no names");
        assert_eq!(text("Look at {{value}}", &json!("this")), "Look at this");
        assert_eq!(
            text("{{name}}", &json!("this")),
            "no value for `{{name}}`; there are `value`"
        );
        assert_eq!(text("{{name}}", &json!({})), "no value for `{{name}}`");
    }

    #[test]
    fn a_value_is_not_a_template_and_a_long_one_is_attached_once() {
        let long = "x".repeat(101);
        let row = json!({"short": "{{long}}", "long": long, "lines": "a\nb"});
        let filled = fill("{{short}} {{long}} {{lines}} {{long}}", &row).unwrap();
        assert_eq!(filled.text, "{{long}} `long` `lines` `long`");
        assert_eq!(
            filled.attached,
            [("long".to_owned(), long), ("lines".to_owned(), "a\nb".to_owned())]
        );
        assert_eq!(filled.first.as_deref(), Some("{{long}}"));
        let first = fill("{{long}}", &row).unwrap().first.unwrap();
        assert_eq!((first.len(), fill("none", &row).unwrap().first), (60, None));
    }
}
