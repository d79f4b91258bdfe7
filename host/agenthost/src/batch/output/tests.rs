//! The lines that scripts read.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::batch::items::ItemLocation;

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
    let places: Vec<TaskItem> = items.iter().map(|index| place(*index).into()).collect();
    let bad = bad.iter().map(|index| Bad::new(place(*index), "no"));
    let records = records(places, Some(ended(outcome)), bad.collect(), layout);
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
        vec![place(0).into()],
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

fn item(index: u64, id: Option<Value>, kept: Value) -> TaskItem {
    let Value::Object(kept) = kept else {
        panic!("not an object")
    };
    let mut item = TaskItem::from(place(index));
    item.origin = Origin { id, kept };
    item
}

#[test]
fn the_id_and_the_carried_columns_of_an_item_are_in_its_line() {
    let items = vec![
        item(0, Some(json!("a")), json!({"note": "x"})),
        item(1, Some(json!("b")), json!({"note": "y"})),
    ];
    let grouped = Layout {
        grouped: true,
        results: false,
    };
    let line = |record: &Record| serde_json::to_value(record).unwrap();
    let split = records(
        items.clone(),
        Some(ended(Outcome::Ok(json!([1, 2])))),
        Vec::new(),
        grouped,
    );
    assert_eq!(line(&split[1])["id"], "b");
    assert_eq!(line(&split[1])["carried"], json!({"note": "y"}));
    let whole = records(items, Some(ended(Outcome::Ok(json!(1)))), Vec::new(), grouped);
    assert_eq!(line(&whole[0])["id"], json!(["a", "b"]));
    assert_eq!(line(&whole[0])["carried"], json!([{"note": "x"}, {"note": "y"}]));
}

#[test]
fn csv_has_a_row_for_each_item_with_its_columns_and_the_fields_of_its_output() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let columns = Columns::new(names(&["id", "label", "cost"]), names(&["label", "more"])).delimiter(b';');
    let mut bytes = Vec::new();
    let mut output = Output::csv(&mut bytes, "here", columns);
    let items = || {
        vec![
            item(0, None, json!({"id": "7", "label": "old; \"x\"", "cost": "-1"})),
            item(1, None, json!({"id": "8", "label": "=HYPERLINK(1)", "cost": null})),
        ]
    };
    let grouped = Layout {
        grouped: true,
        results: false,
    };
    let outputs = json!([{"label": "@new", "more": {"a": ["\u{202e}"]}}, {"label": true, "more": null}]);
    let mut end = ended(Outcome::Ok(outputs));
    end.spent.input_tokens = 12;
    let failed = ended(Outcome::Failure(Failure::new(FailureClass::Failed, "+lost\r\nit")));
    let bad = Bad::new(place(4), "no");
    for record in records(items(), Some(end), Vec::new(), grouped).iter().chain(&records(
        items(),
        Some(failed),
        vec![bad],
        grouped,
    )) {
        output.write(record).unwrap();
    }
    output.flush().unwrap();
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "\u{feff}id;label;cost;output.label;more;outcome;message;agenthost.cost;input_tokens;output_tokens;index;line\r\n\
         7;\"old; \"\"x\"\"\";-1;'@new;\"{\"\"a\"\":[\"\"\\u202e\"\"]}\";ok;;0;12;0;0;1\r\n\
         8;'=HYPERLINK(1);;true;;ok;;;;;1;2\r\n\
         7;\"old; \"\"x\"\"\";-1;;;failed;\"'+lost\nit\";0;0;0;0;1\r\n\
         8;'=HYPERLINK(1);;;;failed;\"'+lost\nit\";;;;1;2\r\n\
         ;;;;;input;no;;;;4;5\r\n"
    );
}
