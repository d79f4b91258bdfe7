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
            (
                4,
                json!("! not UTF-8 text in cell 1; a file in Windows-1252 or Latin-1 has to be converted")
            ),
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
        "items: the header: column 2 has no name"
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

#[test]
fn the_header_shows_the_delimiter_and_a_delimiter_in_quotes_is_text() {
    let first = |text: &str| items(Format::Csv, text)[0].clone();
    for text in ["a,b;c\n1,2;3\n", "sep=,\r\na,b;c\r\n1,2;3\r\n", "\n\"a\",b;c\n1,2;3\n"] {
        assert_eq!(first(text).1, json!({"a": "1", "b;c": "2;3"}), "{text}");
    }
    let of_semicolons = first("\"x, y, z\";\"b\"\"\nc\"\n1,5;\"2;3\"\n");
    assert_eq!(of_semicolons, (3, json!({"x, y, z": "1,5", "b\"\nc": "2;3"})));
    assert_eq!(
        first("a\tb, c\td\n1,5\t2\t\n").1,
        json!({"a": "1,5", "b, c": "2", "d": ""})
    );
    assert_eq!(first("sep=;\r\na,b\r\n1,2\r\n"), (3, json!({"a,b": "1,2"})));
    assert_eq!(first("one\n1,2\n").1, "! the row has 2 cells and the header 1");

    assert_eq!(first("a;\"b, c, d\"\n1;2\n").1, json!({"a": "1", "b, c, d": "2"}));

    let dir = tempfile::tempdir().unwrap();
    let tabs = dir.path().join("a.tsv");
    std::fs::write(&tabs, "a,b\tc\n").unwrap();
    let source = Source::open(&tabs, None, 100, dir.path()).unwrap();
    assert_eq!(source.header().unwrap(), ["a,b", "c"]);
    let options = SourceOptions::new(100).format(Format::Csv).delimiter(b'|');
    let source = Source::spool_with(&b"a,b|c\n"[..], "items", &options, dir.path()).unwrap();
    assert_eq!(source.header().unwrap(), ["a,b", "c"]);
    assert_eq!(source.delimiter().unwrap(), Some(b'|'));
}

#[test]
fn a_quote_within_a_cell_is_text_and_text_behind_one_makes_the_row_malformed() {
    let closing = "! text follows the closing quote of cell";
    assert_eq!(
        items(Format::Csv, "id,text\n1,a \"b\" c\n2,27\""),
        [
            (2, json!({"id": "1", "text": "a \"b\" c"})),
            (3, json!({"id": "2", "text": "27\""}))
        ]
    );
    assert_eq!(
        items(Format::Csv, "id,s,t\n1,a,\"x\n2,b,y\n3,c,\"z\"\n4,d,w\n5,e,\"v"),
        [
            (
                2,
                json!(format!("{closing} 3, which begins on line 2 and ends on line 4"))
            ),
            (5, json!({"id": "4", "s": "d", "t": "w"})),
            (6, json!("! a quote is opened and never closed")),
        ]
    );
    assert_eq!(
        items(Format::Csv, "a,b\n\"x\" y,\"\"\"\n\"1\",\"\"\n"),
        [(2, json!(format!("{closing} 1"))), (3, json!({"a": "1", "b": ""}))]
    );
    assert_eq!(
        fatal(Format::Csv, "a,\"b\"c\n1,2\n"),
        "items: the header: text follows the closing quote of cell 2"
    );
}

#[test]
fn a_table_may_begin_like_a_binary_file() {
    for column in ["PAR1", "BZhang"] {
        assert_eq!(
            items(Format::Csv, format!("{column},b\n1,2\n")),
            [(2, json!({column: "1", "b": "2"}))]
        );
    }
}

#[test]
fn every_kind_of_line_end_counts_once() {
    assert_eq!(
        items(Format::JsonLines, "1\r2\n3"),
        [(1, json!(1)), (2, json!(2)), (3, json!(3))]
    );
    for end in ["\n", "\r\n", "\r"] {
        let text = |lines: &[&str]| lines.join(end);
        assert_eq!(
            items(Format::Csv, text(&["a,b", "1,\"2", "3\"", "", "  ", "4,5", "6"])),
            [
                (2, json!({"a": "1", "b": format!("2{end}3")})),
                (6, json!({"a": "4", "b": "5"})),
                (7, json!("! the row has 1 cells and the header 2")),
            ],
            "{end:?}"
        );
        assert_eq!(
            items(Format::JsonLines, text(&["1", "", "2", "x", "3"])),
            [
                (1, json!(1)),
                (3, json!(2)),
                (4, json!("! not JSON: expected value, 1 bytes into it")),
                (5, json!(3))
            ],
            "{end:?}"
        );
        assert_eq!(
            items(Format::JsonArray, text(&["[", "1,", "", "2", "]"])),
            [(2, json!(1)), (4, json!(2))],
            "{end:?}"
        );
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn gzip_is_read_and_damaged_or_endless_data_is_an_error() {
    let text = b"\xef\xbb\xbfa,b\r\n1,2\r\n";
    let expected = [(2, json!({"a": "1", "b": "2"}))];
    assert_eq!(items(Format::Csv, gzip(text)), expected);
    let members = [gzip(b"a,b\n"), gzip(b"1,2\n")].concat();
    assert_eq!(items(Format::Csv, members), expected);

    let error = |bytes: &[u8]| -> String {
        let source = source(Format::JsonLines, bytes, 1_000);
        match source.read() {
            Ok(mut reader) => reader.find_map(Result::err).unwrap().to_string(),
            Err(error) => agenthost_core::error::with_causes(&error),
        }
    };
    let lines: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    let whole = gzip(lines.as_bytes());
    assert!(error(&whole[..whole.len() / 2]).contains("the gzip data is cut off"));
    assert!(error(&whole[..5]).contains("the gzip data is cut off"));
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 100].fill(0);
    assert!(error(&damaged).contains("the gzip data is "), "{}", error(&damaged));
    let bomb = gzip(&vec![b'\n'; 17 << 20]);
    assert_eq!(
        error(&bomb),
        "items: the gzip data expands to more than 250 times its size"
    );
    assert!(error(&gzip(&whole)).contains("compressed twice"));
}

#[test]
fn files_of_other_kinds_are_named() {
    let utf_16 = |text: &str, mark: &[u8], bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let units = text.encode_utf16().flat_map(bytes);
        mark.iter().copied().chain(units).collect()
    };
    let zip = |name: &str| [b"PK\x03\x04\x14\0\x06\0", name.as_bytes()].concat();
    for (bytes, what) in [
        (utf_16("id,a\n", b"\xff\xfe", u16::to_le_bytes), "UTF-16 text"),
        (utf_16("id,a\n", b"\xfe\xff", u16::to_be_bytes), "UTF-16 text"),
        (utf_16("id,a\n", b"", u16::to_le_bytes), "UTF-16 text"),
        (utf_16("[1]", b"", u16::to_be_bytes), "UTF-16 text"),
        (b"\xff\xfe\0\0i\0\0\0".to_vec(), "UTF-32 text"),
        (zip("[Content_Types].xml xl/workbook.xml"), "an Excel spreadsheet"),
        (
            zip("mimetypeapplication/vnd.oasis.opendocument.spreadsheet"),
            "an OpenDocument spreadsheet",
        ),
        (zip("x"), "a ZIP archive"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec(),
            "a spreadsheet of an old Excel",
        ),
        (b"PAR1".to_vec(), "a Parquet file"),
        (b"\x28\xb5\x2f\xfd".to_vec(), "compressed with zstd"),
        (b"<!DOCTYPE html><table>".to_vec(), "an HTML or XML document"),
    ] {
        for bytes in [bytes.clone(), gzip(&bytes)] {
            for format in [Format::Csv, Format::JsonLines, Format::JsonArray] {
                let error = source(format, &bytes, 1_000).read().err().unwrap();
                assert!(error.to_string().starts_with(&format!("items: is {what}")), "{error}");
                assert!(error.hint().is_some());
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, text, what) in [
        ("a.xlsx", &b"PK\x03\x04xl/"[..], "an Excel spreadsheet"),
        ("a.ods", b"", "an OpenDocument spreadsheet"),
        ("a.parquet", b"", "a Parquet file"),
        ("a.dat", b"\xff\xfea\0", "UTF-16 text"),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let error = Source::open(&path, None, 10, dir.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("{name}: is {what}"));
    }
}
