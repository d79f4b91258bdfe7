//! The parts of a message as people read them.

use super::super::output::counted;
use agenthost::llm::{Citation, Extension, Part, SearchReport, ToolCall};
use agenthost::printable::one_line;

/// Returns the parts of a message, one below the other.
pub(super) fn contents(content: &[Part]) -> String {
    content.iter().map(part).collect::<Vec<_>>().join("\n")
}

fn part(part: &Part) -> String {
    match part {
        Part::Text(text) => text.clone(),
        Part::Media { mime, data } => format!("[{}, {}]", one_line(mime), counted(data.len() as u64, "bytes")),
        Part::Extension { kind, json } => match Extension::read(kind, json) {
            Ok(extension) => words(&extension, json),
            Err(_) => format!("[{}] {json}", one_line(kind)),
        },
    }
}

fn words(extension: &Extension, json: &str) -> String {
    match extension {
        Extension::ToolCall(ToolCall {
            id, name, arguments, ..
        }) => {
            format!(
                "{} calls {} {}",
                one_line(id),
                one_line(name),
                one_line(&arguments.text())
            )
        }
        Extension::ToolResult(result) => {
            let what = if result.is_error { "error" } else { "result" };
            format!("{what} of {}: {}", one_line(&result.id), result.content)
        }
        Extension::Citation(Citation { url, title, .. }) => match title {
            Some(title) => format!("[cites {}, {}]", one_line(title), one_line(url)),
            None => format!("[cites {}]", one_line(url)),
        },
        Extension::Search(search) => searched(search),
        Extension::Echo(echo) => {
            let kind = echo
                .block
                .get("type")
                .and_then(serde_json::Value::as_str)
                .unwrap_or("block");
            format!(
                "[{} of the model, {}]",
                one_line(kind),
                counted(json.len() as u64, "bytes")
            )
        }
        _ => format!("[{}] {json}", extension.kind()),
    }
}

fn searched(search: &SearchReport) -> String {
    let queries: Vec<String> = search
        .queries
        .iter()
        .map(|query| one_line(query).into_owned())
        .collect();
    let found = match &search.error {
        Some(error) => format!("failed: {}", one_line(error)),
        None => counted(search.results.len() as u64, "pages"),
    };
    let mut text = format!("[{} {}: {found}]", one_line(&search.tool), queries.join("; "));
    for hit in &search.results {
        text.push_str(&format!("\n  {}", one_line(&hit.url)));
    }
    text
}

#[cfg(test)]
mod tests {
    use agenthost::llm::{SearchHit, ToolResult};

    use super::*;

    #[test]
    fn each_kind_of_part_is_words() {
        let call = Extension::read("tool-call", r#"{"id":"c1","name":"add","arguments":{"numbers":[1,2]}}"#).unwrap();
        let result = Extension::ToolResult(ToolResult {
            id: "c1".to_owned(),
            content: "3".to_owned(),
            is_error: false,
        });
        let search = Extension::Search(SearchReport {
            tool: "web-search".to_owned(),
            queries: vec!["a\nb".to_owned()],
            results: vec![SearchHit {
                url: "https://example.com/a".to_owned(),
                title: None,
            }],
            error: None,
        });
        let echo = r#"{"wire":"anthropic","model":"m","block":{"type":"thinking","thinking":"","signature":"s"}}"#;
        let parts = [
            Part::Text("Hm.".to_owned()),
            call.into_part(),
            result.into_part(),
            search.into_part(),
            Extension::read("echo", echo).unwrap().into_part(),
            Part::Extension {
                kind: "tool-call".to_owned(),
                json: "{}".to_owned(),
            },
        ];
        let text = contents(&parts);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Hm.");
        assert_eq!(lines[1], "c1 calls add {\"numbers\":[1,2]}");
        assert_eq!(lines[2], "result of c1: 3");
        assert!(
            lines[3].starts_with("[web-search a") && lines[3].ends_with(": 1 page]"),
            "{text}"
        );
        assert_eq!(lines[4], "  https://example.com/a");
        assert!(lines[5].starts_with("[thinking of the model, "), "{text}");
        assert_eq!(lines[6], "[tool-call] {}");
    }
}
