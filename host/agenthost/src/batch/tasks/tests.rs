//! Tests of the inputs that are made from items.

use serde_json::json;

use super::*;
use crate::batch::items::{Format, Source};

fn tasks_of(format: Format, text: &str, shape: &Shape, size: u64, limit: Option<u64>, check: &Check<'_>) -> Vec<Task> {
    let dir = tempfile::tempdir().unwrap();
    let source = Source::spool(text.as_bytes(), "items", format, 10_000, dir.path()).unwrap();
    Tasks::new(source.read().unwrap(), shape.clone(), size, limit, check)
        .map(Result::unwrap)
        .collect()
}

fn numbers(count: u64) -> String {
    (0..count).map(|n| format!("{n}\n")).collect()
}

fn ranges(tasks: &[Task]) -> Vec<(u64, u64)> {
    tasks
        .iter()
        .map(|task| {
            (
                task.items.first().unwrap().at.index,
                task.items.last().unwrap().at.index,
            )
        })
        .collect()
}

#[test]
fn ranges_are_exact_and_the_remainder_is_a_task_of_its_own() {
    let of = |count, limit| tasks_of(Format::JsonLines, &numbers(count), &Shape::List, 10, limit, &|_| Ok(()));
    let hundred = of(100, None);
    let expected: Vec<_> = (0..10).map(|n| (n * 10, n * 10 + 9)).collect();
    assert_eq!(ranges(&hundred), expected);
    assert_eq!(hundred[9].input, Some(json!([90, 91, 92, 93, 94, 95, 96, 97, 98, 99])));
    let rest = of(103, None);
    assert_eq!((rest.len(), ranges(&rest)[10]), (11, (100, 102)));
    assert_eq!(rest[10].number, 10);
    let limited = of(103, Some(12));
    assert_eq!(ranges(&limited), [(0, 9), (10, 11)]);
    assert_eq!(of(0, None), []);
    assert_eq!(of(5, Some(0)), []);
}

#[test]
fn what_fits_no_input_is_left_out_and_moves_no_other_item() {
    let even = |input: &Value| match input
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item.as_u64().unwrap() % 2 == 1)
    {
        Some(odd) => Err(format!("input[0]: {odd} is odd")),
        None => Ok(()),
    };
    let tasks = tasks_of(Format::JsonLines, "0\n1\nx\n4\n5\n7\n8\n", &Shape::List, 2, None, &even);
    let brief: Vec<_> = tasks
        .iter()
        .map(|task| {
            (
                task.number,
                task.input.clone(),
                task.bad.iter().map(|bad| bad.at.line).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            (0, Some(json!([0])), vec![2]),
            (1, Some(json!([4])), vec![3]),
            (2, None, vec![5, 6]),
            (3, Some(json!([8])), vec![]),
        ]
    );
    assert_eq!(tasks[0].bad[0].reason, "input[0]: 1 is odd");
}

#[test]
fn items_that_fit_alone_and_not_together_are_an_error() {
    let few = |input: &Value| match input.as_array().unwrap().len() {
        0..=2 => Ok(()),
        _ => Err("input: too large".to_owned()),
    };
    let dir = tempfile::tempdir().unwrap();
    let source = Source::spool(numbers(9).as_bytes(), "items", Format::JsonLines, 100, dir.path()).unwrap();
    let mut tasks = Tasks::new(source.read().unwrap(), Shape::List, 3, None, &few);
    let error = tasks.next().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "items: the items on lines 1 to 3 do not fit together: input: too large"
    );
    assert!(tasks.next().is_none());
}

#[test]
fn the_shape_is_what_the_plugin_takes() {
    let list = |input: &Value| input.is_array();
    assert_eq!(Shape::of_list(["a"], list), Some(Shape::List));
    let one = |input: &Value| input.get("b").is_some_and(Value::is_array);
    assert_eq!(Shape::of_list(["a", "b"], one), Some(Shape::Field("b".into())));
    assert_eq!(Shape::Field("b".into()).input(vec![json!(1)]), Some(json!({"b": [1]})));
    let either = |input: &Value| input.is_object();
    assert_eq!(Shape::of_list(["a", "b"], either), None, "nobody knows which");
    assert_eq!(Shape::of_list([], |_| false), None);
}

/// Checks a record of a text, a number, a boolean and an optional number, as the decoder of values would.
fn person(row: &Value, at: &str) -> Result<(), String> {
    let wrong = |field: &str, what: &str| Err(format!("{at}.{field}: expected {what}, found {}", row[field]));
    if !row["zip"].is_string() {
        return wrong("zip", "string");
    }
    if !row["age"].is_u64() {
        return wrong("age", "u32");
    }
    if !row["member"].is_boolean() {
        return wrong("member", "bool");
    }
    if !row["zip-old"].is_string() {
        return wrong("zip-old", "string");
    }
    match &row["score"] {
        Value::Null | Value::Number(_) => Ok(()),
        _ => wrong("score", "f64"),
    }
}

#[test]
fn a_cell_is_what_the_type_wants_it_to_be() {
    let text = "zip-old,age,member,zip,score\n1,42,true,8001,\ntrue,7,false,,1.5\n";
    let expected = [
        json!({"zip-old": "1", "age": 42, "member": true, "zip": "8001", "score": null}),
        json!({"zip-old": "true", "age": 7, "member": false, "zip": "", "score": 1.5}),
    ];
    let alone = tasks_of(Format::Csv, text, &Shape::Whole, 1, None, &|input| {
        person(input, "input")
    });
    let inputs: Vec<_> = alone.into_iter().map(|task| task.input.unwrap()).collect();
    assert_eq!(inputs, expected);

    let all = |input: &Value| {
        let mut rows = input["people"].as_array().unwrap().iter().enumerate();
        rows.try_for_each(|(n, row)| person(row, &format!("input.people[{n}]")))
    };
    let shape = Shape::Field("people".into());
    let together = tasks_of(Format::Csv, text, &shape, 2, None, &all);
    assert_eq!(together[0].input, Some(json!({"people": expected})));
}

#[test]
fn a_cell_that_fits_in_no_form_is_named_with_what_was_wrong_first() {
    let text = "zip,zip-old,age,member,score\na,b,x,true,\na,b,1.5,true,\na,b,1,true,many\n";
    let tasks = tasks_of(Format::Csv, text, &Shape::Whole, 1, None, &|input| {
        person(input, "input")
    });
    let reasons: Vec<_> = tasks.iter().map(|task| task.bad[0].reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "input.age: expected u32, found \"x\"",
            "input.age: expected u32, found 1.5",
            "input.score: expected f64, found \"many\"",
        ]
    );
}

#[test]
fn a_survey_counts_and_keeps_the_first_that_are_bad() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{}{}", "x\n".repeat(25), numbers(7));
    let source = Source::spool(text.as_bytes(), "items", Format::JsonLines, 100, dir.path()).unwrap();
    let found = survey(Tasks::new(source.read().unwrap(), Shape::List, 10, None, &|_| Ok(()))).unwrap();
    assert_eq!(
        (found.items, found.tasks, found.bad, found.first_bad.len()),
        (32, 2, 25, 10)
    );
}

#[test]
fn booleans_and_whole_numbers_are_read_as_spreadsheets_write_them() {
    let text = "zip,zip-old,age,member,score\nTrue,41.0,41.0,True,\nFALSE,TRUE,0.0,FALSE,2.50\na,b,1,yes,\n";
    let tasks = tasks_of(Format::Csv, text, &Shape::Whole, 1, None, &|input| {
        person(input, "input")
    });
    let inputs: Vec<_> = tasks.iter().filter_map(|task| task.input.clone()).collect();
    assert_eq!(
        inputs,
        [
            json!({"zip": "True", "zip-old": "41.0", "age": 41, "member": true, "score": null}),
            json!({"zip": "FALSE", "zip-old": "TRUE", "age": 0, "member": false, "score": 2.5}),
        ]
    );
    assert_eq!(tasks[2].bad[0].reason, "input.member: expected bool, found \"yes\"");
}

#[test]
fn what_the_plugin_does_not_know_is_kept_for_the_results() {
    let known = |input: &Value| match input.as_object().unwrap().keys().find(|name| *name != "text") {
        Some(other) => Err(format!("input.{other}: unknown field")),
        None => Ok(()),
    };
    let tasks = |format, text: &str, id: Option<&str>, all: bool| -> Vec<Task> {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::spool(text.as_bytes(), "items", format, 100, dir.path()).unwrap();
        let mut tasks = Tasks::new(source.read().unwrap(), Shape::Whole, 1, None, &known).fields(["text".to_owned()]);
        if let Some(id) = id {
            tasks = tasks.id_column(id);
        }
        if all {
            tasks = tasks.keep_all();
        }
        tasks.map(Result::unwrap).collect()
    };
    let csv = "id,text,note\n7,hi,=1\n8,a\n";
    let carried = tasks(Format::Csv, csv, Some("id"), false);
    assert_eq!(carried[0].input, Some(json!({"text": "hi"})));
    let origin = &carried[0].items[0].origin;
    assert_eq!(
        (&origin.id, json!(origin.kept)),
        (&Some(json!("7")), json!({"note": "=1"}))
    );
    assert_eq!(
        carried[1].bad[0].origin,
        Origin::default(),
        "the cells of that row are not known"
    );

    let all = tasks(Format::Csv, csv, None, true);
    assert_eq!(
        json!(all[0].items[0].origin.kept),
        json!({"id": "7", "text": "hi", "note": "=1"})
    );
    let none_known = tasks(Format::Csv, "a,b\n1,2\n", None, false);
    assert_eq!(none_known[0].bad[0].reason, "input.a: unknown field");
    let only_id = tasks(Format::Csv, "text,note\nhi,x\n", Some("text"), false);
    assert_eq!(only_id[0].input, Some(json!({"text": "hi"})));

    let json_lines = "{\"id\": [1], \"text\": \"hi\"}\n{\"text\": \"a\", \"x\": 1}\n";
    let fields = tasks(Format::JsonLines, json_lines, Some("id"), false);
    assert_eq!(fields[0].items[0].origin.id, Some(json!([1])));
    assert_eq!(fields[0].input, Some(json!({"text": "hi"})));
    assert_eq!(fields[1].bad[0].reason, "input.x: unknown field");
}

#[test]
fn the_parts_of_a_batch_are_the_whole() {
    for (tasks, of) in [(0, 3), (2, 5), (10, 3), (97, 4), (u64::MAX, 7)] {
        let mut next = 0;
        for number in 1..=of {
            let range = format!("{number}/{of}").parse::<Shard>().unwrap().range(tasks);
            assert_eq!(range.start, next);
            let size = range.end - range.start;
            assert!(
                size == tasks / of || size == tasks / of + 1,
                "{number} of {of}: {range:?}"
            );
            next = range.end;
        }
        assert_eq!(next, tasks);
    }
    for text in ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b"] {
        assert!(text.parse::<Shard>().is_err(), "{text}");
    }
}
