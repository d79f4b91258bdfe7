//! The lines that scripts read.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::json;

use super::*;

fn place(index: u64) -> ItemLocation {
    ItemLocation { index, line: index + 1 }
}

fn ended(outcome: Outcome) -> ItemEnd {
    ItemEnd {
        outcome,
        spent: Spent {
            calls: 3,
            wall: Duration::from_millis(40),
            ..Spent::default()
        },
        tasks: 1,
        models: Vec::new(),
        recorded: false,
    }
}

fn lines(items: &[u64], outcome: Outcome, bad: &[u64], layout: Layout) -> (Vec<Value>, Vec<u64>) {
    let places: Vec<ItemLocation> = items.iter().copied().map(place).collect();
    let bad = bad.iter().map(|index| Bad {
        at: place(*index),
        reason: "no".into(),
    });
    let records = records(&places, Some(ended(outcome)), bad.collect(), layout);
    let mut bytes = Vec::new();
    let mut output = Output::new(&mut bytes, "here");
    for record in &records {
        output.write(record).unwrap();
    }
    output.flush().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with('\n'));
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, records.iter().map(Record::items).collect())
}

fn spent() -> Value {
    serde_json::to_value(ended(Outcome::Ok(Value::Null)).spent).unwrap()
}

const GROUPED: Layout = Layout {
    grouped: true,
    results: false,
};
const RESULTS: Layout = Layout {
    grouped: true,
    results: true,
};

#[test]
fn an_item_is_a_line() {
    let (alone, _) = lines(&[6], Outcome::Ok(json!([1])), &[], Layout::default());
    assert_eq!(
        alone,
        [json!({"index": 6, "line": 7, "outcome": {"ok": [1]}, "spent": spent()})]
    );
}

#[test]
fn an_output_for_each_item_makes_a_line_for_each() {
    let (two, counts) = lines(&[0, 1], Outcome::Ok(json!(["a", {"err": 1}])), &[], GROUPED);
    assert_eq!(
        two,
        [
            json!({"index": 0, "line": 1, "items": [0, 1], "outcome": {"ok": "a"}, "spent": spent()}),
            json!({"index": 1, "line": 2, "items": [0, 1], "outcome": {"ok": {"err": 1}}}),
        ]
    );
    assert_eq!(counts, [1, 1]);

    let outputs = json!([{"ok": {"ok": 1}}, {"err": "gone"}, {"err": {"code": 7}}, {"ok": null}, {"err": null}]);
    let (five, _) = lines(&[0, 1, 2, 3, 4], Outcome::Ok(outputs), &[], RESULTS);
    let outcomes: Vec<_> = five.iter().map(|line| line["outcome"].clone()).collect();
    let failed =
        |message: &str, error: Value| json!({"failure": {"class": "failed", "message": message, "error": error}});
    assert_eq!(
        outcomes,
        [
            json!({"ok": {"ok": 1}}),
            failed("gone", json!("gone")),
            failed(
                "the plugin gave an error for this item: {\"code\":7}",
                json!({"code": 7})
            ),
            json!({"ok": null}),
            failed("the plugin gave no output and no reason for this item", Value::Null),
        ]
    );
}

#[test]
fn what_cannot_be_told_apart_is_one_line_for_all() {
    for outcome in [
        Outcome::Ok(json!([1])),
        Outcome::Ok(json!("sum")),
        Outcome::Failure(Failure::new(FailureClass::Model, "down")),
    ] {
        let expected = serde_json::to_value(&outcome).unwrap();
        let (lines, counts) = lines(&[2, 3], outcome, &[], RESULTS);
        assert_eq!(
            lines,
            [json!({"index": 2, "line": 3, "items": [2, 3], "outcome": expected, "spent": spent()})]
        );
        assert_eq!(counts, [2]);
    }
}

#[test]
fn a_bad_item_stands_at_its_place_among_the_others() {
    let (lines, _) = lines(&[1, 3], Outcome::Ok(json!(["b", "d"])), &[0, 2], GROUPED);
    let brief: Vec<_> = lines
        .iter()
        .map(|line| (line["index"].as_u64().unwrap(), line["outcome"].clone()))
        .collect();
    let bad = json!({"failure": {"class": "input", "message": "no"}});
    assert_eq!(
        brief,
        [
            (0, bad.clone()),
            (1, json!({"ok": "b"})),
            (2, bad),
            (3, json!({"ok": "d"}))
        ]
    );
    assert_eq!(lines[1]["items"], json!([1, 3]));
}

/// Accepts this number of bytes and then no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        match taken {
            0 => Err(ErrorKind::StorageFull.into()),
            taken => Ok(taken),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_named() {
    let records = records(
        &[place(0)],
        Some(ended(Outcome::Ok(json!("x")))),
        Vec::new(),
        Layout::default(),
    );
    let mut output = Output::new(Full(10), "out.jsonl");
    output.write(&records[0]).unwrap();
    let error = output.flush().unwrap_err();
    let text = agenthost_core::error::with_causes(&error);
    assert!(text.starts_with("cannot write the results to out.jsonl: "), "{text}");
    assert!(error.hint().unwrap().starts_with("Make room"));
}
