//! Tests of reading items, and of the messages for malformed ones.

use serde_json::{Value, json};

use super::*;

fn source(format: Format, text: impl AsRef<[u8]>, most: usize) -> Source {
    let dir = tempfile::tempdir().unwrap();
    Source::spool(text.as_ref(), "items", format, most, dir.path()).unwrap()
}

/// Returns the line of each item, with its value or the reason why it is malformed.
fn items(format: Format, text: impl AsRef<[u8]>) -> Vec<(u64, Value)> {
    let source = source(format, text, 1_000);
    let entries: Vec<BatchItem> = source.read().unwrap().map(Result::unwrap).collect();
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(entry.at.index, index as u64);
    }
    entries
        .into_iter()
        .map(|entry| {
            let value = match entry.found {
                Ok(Found::Json(value)) => value,
                Ok(Found::Row(cells)) => cells
                    .into_iter()
                    .map(|(name, cell)| (name, Value::from(cell)))
                    .collect(),
                Err(problem) => json!(format!("! {problem}")),
            };
            (entry.at.line, value)
        })
        .collect()
}

fn fatal(format: Format, text: &str) -> String {
    let source = source(format, text, 1_000);
    let mut reader = source.read().unwrap();
    let error = reader.find_map(Result::err).unwrap();
    assert!(reader.next().is_none(), "after an error there is nothing");
    assert!(error.hint().is_some());
    error.to_string()
}

#[test]
fn lines_count_blank_ones_and_items_do_not() {
    let text = "\u{feff}{\"a\": 1}\r\n\r\n  \n[2]\n3";
    assert_eq!(
        items(Format::JsonLines, text),
        [(1, json!({"a": 1})), (4, json!([2])), (5, json!(3))]
    );
    for empty in ["", "\n \r\n", "\u{feff}"] {
        assert_eq!(items(Format::JsonLines, empty), []);
    }
}

#[test]
fn a_malformed_line_costs_itself_alone() {
    let mut text = b"1\n{\"a\": }\n2 3\n\"".to_vec();
    text.extend_from_slice(b"\xff\"\n4\n");
    text.extend_from_slice(&b"5".repeat(1_001));
    text.extend_from_slice(b"\n6");
    let found = items(Format::JsonLines, text);
    let lines: Vec<u64> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7]);
    let good: Vec<&Value> = found
        .iter()
        .map(|(_, value)| value)
        .filter(|value| value.is_number())
        .collect();
    assert_eq!(good, [&json!(1), &json!(4), &json!(6)]);
    assert_eq!(found[1].1, "! not JSON: expected value, 7 bytes into it");
    assert_eq!(found[2].1, "! not JSON: trailing characters, 3 bytes into it");
    assert!(
        found[3].1.as_str().unwrap().starts_with("! not JSON: "),
        "{}",
        found[3].1
    );
    assert_eq!(found[5].1, "! more than 1000 bytes");
}

#[test]
fn an_array_is_taken_apart_into_its_elements() {
    let text = "\u{feff} [\r\n {\"a\": \"]},\\\"\"},\n\n[1, [2]], \"x\" , 3.5\n ]\n";
    assert_eq!(
        items(Format::JsonArray, text),
        [
            (2, json!({"a": "]},\""})),
            (4, json!([1, [2]])),
            (4, json!("x")),
            (4, json!(3.5))
        ]
    );
    for empty in ["[]", " [ \n ] "] {
        assert_eq!(items(Format::JsonArray, empty), []);
    }
}

#[test]
fn a_malformed_element_costs_itself_alone() {
    let long = "9".repeat(1_001);
    let text = format!("[1,\n{{\"a\":\n tru}}, , {long},\n2,]");
    assert_eq!(
        items(Format::JsonArray, text),
        [
            (1, json!(1)),
            (2, json!("! not JSON: expected ident, on line 3")),
            (3, json!("! not JSON: there is nothing beside the comma")),
            (3, json!("! more than 1000 bytes")),
            (4, json!(2)),
            (4, json!("! not JSON: there is nothing beside the comma")),
        ]
    );
}

#[test]
fn what_is_no_array_or_does_not_end_is_an_error() {
    for (text, problem) in [
        ("", "items: not a JSON array: there is nothing in it"),
        ("\n{\"a\": 1}", "items: line 2: not a JSON array"),
        (
            "[1, [2]\n",
            "items: the array does not end; the last item begins on line 1",
        ),
        ("[1] 2", "items: line 1: something follows the array"),
        ("[] 2", "items: line 1: something follows the array"),
        (
            "[1,\n}, 2]",
            "items: the item on line 2 closes a bracket that it did not open",
        ),
    ] {
        assert_eq!(fatal(Format::JsonArray, text), problem);
    }
}

#[test]
fn a_row_is_an_object_with_the_names_of_the_columns() {
    let text = "\u{feff}name,note\r\nAcme,\"a, \"\"b\"\"\r\nc\"\r\n\r\nBeta,\r\n\u{e4},d";
    assert_eq!(
        items(Format::Csv, text),
        [
            (2, json!({"name": "Acme", "note": "a, \"b\"\r\nc"})),
            (5, json!({"name": "Beta", "note": ""})),
            (6, json!({"name": "\u{e4}", "note": "d"})),
        ]
    );
    for empty in ["", "\n", "name,note", "name,note\n"] {
        assert_eq!(items(Format::Csv, empty), []);
    }
}

#[test]
fn a_malformed_row_costs_itself_alone_and_an_open_quote_does_not_swallow_rows_in_silence() {
    let mut text = b"a,b\n1\n2,3,4\n".to_vec();
    text.extend_from_slice(b"\xff,5\n");
    text.extend_from_slice(format!("6,{}\n7,8\n9,\"10\n11,12\n", "x".repeat(5_000)).as_bytes());
    assert_eq!(
        items(Format::Csv, text),
        [
            (2, json!("! the row has 1 cells and the header 2")),
            (3, json!("! the row has 3 cells and the header 2")),
            (4, json!("! not UTF-8 text")),
            (5, json!("! more than 1000 bytes")),
            (6, json!({"a": "7", "b": "8"})),
            (7, json!("! a quote is opened and never closed")),
        ]
    );
    let many = format!("a\n{}\n1\n", ",".repeat(3_000));
    assert_eq!(items(Format::Csv, many)[1], (3, json!({"a": "1"})));
    assert_eq!(
        fatal(Format::Csv, "a,b,a\n1,2,3"),
        "items: the header: two columns are named a"
    );
    assert_eq!(
        fatal(Format::Csv, "a,,b\n1,2,3"),
        "items: the header: a column has no name"
    );
}

#[test]
fn a_source_is_read_from_its_start_again_and_again() {
    let source = source(Format::JsonLines, "1\n2\n", 10);
    assert_eq!(source.read().unwrap().count(), 2);
    source.read().unwrap().next();
    assert_eq!(source.read().unwrap().count(), 2);
}

#[test]
fn a_file_says_its_format_and_the_copy_of_a_stream_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, format| Source::open(&dir.path().join(name), format, 10, dir.path());
    for (name, text) in [
        ("a.jsonl", "1"),
        ("a.NDJSON", "1"),
        ("a.json", "[1]"),
        ("a.csv", "x\n1"),
        ("a.txt", "1"),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
        let format = (name == "a.txt").then_some(Format::JsonLines);
        assert_eq!(open(name, format).unwrap().read().unwrap().count(), 1, "{name}");
    }
    let unnamed = open("a.txt", None).unwrap_err();
    assert!(
        matches!(unnamed.downcast_ref(), Some(BatchError::UnknownFormat { name }) if name == "a.txt"),
        "{unnamed}"
    );
    assert!(
        open("missing.csv", None)
            .unwrap_err()
            .to_string()
            .contains("missing.csv")
    );
    assert!(
        open("", Some(Format::Csv))
            .unwrap_err()
            .to_string()
            .contains("is a directory")
    );

    let before = std::fs::read_dir(dir.path()).unwrap().count();
    let source = Source::spool(&b"1\n2"[..], "stdin", Format::JsonLines, 10, dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before);
    assert_eq!(source.read().unwrap().count(), 2);
}
