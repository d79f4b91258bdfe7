//! Making inputs from items: one by one, or a number of them for a plugin that takes a list.
//!
//! The tasks of a batch are a function of its items, its size and its limit alone: task `n` of size `s` holds the items
//! `n * s` to `n * s + s - 1`, except those that fit no input. So a batch that is read again has the same tasks.
//!
//! A cell of a CSV file is text that may represent a number. It is read as JSON first, an empty one as `null`, and
//! stays text if it is not JSON or if the plugin's type does not accept the JSON value.

use serde_json::{Map, Value};

use super::items::{BatchItem, Found, ItemLocation, Reader};
use crate::error::BatchError;
use agenthost_core::error::Result;

/// The way in which an input is made from items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// An item is an input.
    Whole,
    /// A list of items is an input.
    List,
    /// A record with a list of items in this field is an input.
    Field(String),
}

impl Shape {
    /// Returns the shape of a plugin that accepts, by `takes`, a list, or a record with nothing but a list in one of
    /// its `fields`.
    ///
    /// ```
    /// use agenthost::batch::tasks::Shape;
    /// use serde_json::Value;
    ///
    /// let takes = |input: &Value| input["mails"].is_array();
    /// assert_eq!(Shape::of_list(["mails", "tone"], takes), Some(Shape::Field("mails".into())));
    /// ```
    pub fn of_list<'f>(fields: impl IntoIterator<Item = &'f str>, takes: impl Fn(&Value) -> bool) -> Option<Self> {
        if takes(&Value::Array(Vec::new())) {
            return Some(Self::List);
        }
        let mut fitting = fields
            .into_iter()
            .map(|field| Self::Field(field.to_owned()))
            .filter(|shape| shape.input(Vec::new()).as_ref().is_some_and(&takes));
        let first = fitting.next();
        // With two such fields, it is not known which one is meant.
        first.filter(|_| fitting.next().is_none())
    }

    /// Returns the input made from these items; `None` for a [`Shape::Whole`] without items.
    pub fn input(&self, mut items: Vec<Value>) -> Option<Value> {
        match self {
            Self::Whole => items.pop(),
            Self::List => Some(Value::Array(items)),
            Self::Field(field) => Some(Value::Object(Map::from_iter([(field.clone(), Value::Array(items))]))),
        }
    }

    /// Returns the items from which an input was made.
    fn items(&self, mut input: Value) -> Vec<Value> {
        let list = match self {
            Self::Whole => return vec![input],
            Self::List => input,
            Self::Field(field) => input.get_mut(field).map(Value::take).unwrap_or_default(),
        };
        match list {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }
}

/// Checks an input. The error names the path: `input.age: expected u32, found string`.
pub type Check<'c> = dyn Fn(&Value) -> Result<(), String> + 'c;

/// An item that fits no input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The place of the item.
    pub at: ItemLocation,
    /// The reason why it does not fit.
    pub reason: String,
}

/// A task to be run, and the items that were left out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The number of the task, from 0.
    pub number: u64,
    /// The places of its items.
    pub items: Vec<ItemLocation>,
    /// Its input; `None` if it has no items.
    pub input: Option<Value>,
    /// The items in its range that fit no input.
    pub bad: Vec<Bad>,
}

/// An iterator over the tasks of a batch, in order. It ends after an error.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::batch::items::{Format, Source};
/// use agenthost::batch::tasks::{Shape, Tasks};
/// use serde_json::{Value, json};
///
/// # let dir = tempfile::tempdir()?;
/// let source = Source::spool(&b"1\nx\n3\n"[..], "stdin", Format::JsonLines, 1 << 20, dir.path())?;
/// let any = |_: &Value| Ok(());
/// let tasks: Vec<_> = Tasks::new(source.read()?, Shape::List, 2, None, &any).collect::<Result<_, _>>()?;
/// assert_eq!(tasks[0].input, Some(json!([1])));
/// assert_eq!(tasks[0].bad[0].at.line, 2, "that line is not valid JSON");
/// assert_eq!(tasks[1].input, Some(json!([3])));
/// # Ok(())
/// # }
/// ```
pub struct Tasks<'c> {
    reader: Option<Reader>,
    shape: Shape,
    size: u64,
    left: u64,
    number: u64,
    check: &'c Check<'c>,
}

impl<'c> Tasks<'c> {
    /// Returns the tasks of the first `limit` items, with `size` items each.
    pub fn new(reader: Reader, shape: Shape, size: u64, limit: Option<u64>, check: &'c Check<'c>) -> Self {
        Self {
            reader: Some(reader),
            shape,
            size: size.max(1),
            left: limit.unwrap_or(u64::MAX),
            number: 0,
            check,
        }
    }

    fn task(&mut self) -> Result<Option<Task>> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let (mut items, mut values, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.size.min(self.left) {
            let Some(entry) = reader.next() else { break };
            self.left -= 1;
            let BatchItem { at, found } = entry?;
            match found.and_then(|found| fit(found, &self.shape, self.check)) {
                Ok(value) => {
                    items.push(at);
                    values.push(value);
                }
                Err(reason) => bad.push(Bad { at, reason }),
            }
        }
        if items.is_empty() && bad.is_empty() {
            return Ok(None);
        }
        let input = match items.is_empty() {
            true => None,
            false => self.shape.input(values),
        };
        if let (Some(input), Some(first), Some(last)) = (&input, items.first(), items.last())
            && first != last
        {
            (self.check)(input).map_err(|problem| BatchError::Together {
                name: reader.name().to_owned(),
                first: first.line,
                last: last.line,
                problem,
            })?;
        }
        let number = self.number;
        self.number += 1;
        Ok(Some(Task {
            number,
            items,
            input,
            bad,
        }))
    }
}

impl Iterator for Tasks<'_> {
    type Item = Result<Task>;

    fn next(&mut self) -> Option<Self::Item> {
        let task = self.task().transpose();
        if !matches!(task, Some(Ok(_))) {
            self.reader = None;
        }
        task
    }
}

/// The counts of a batch, known before any of it is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The number of items, bad ones included.
    pub items: u64,
    /// The number of tasks to be run.
    pub tasks: u64,
    /// The number of items that fit no input.
    pub bad: u64,
    /// The first of these.
    pub first_bad: Vec<Bad>,
}

/// The most bad items that a [`Survey`] keeps.
const KEPT_BAD: usize = 10;

/// Reads all `tasks` without running any.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::batch::items::{Format, Source};
/// use agenthost::batch::tasks::{Shape, Tasks, survey};
/// use serde_json::Value;
///
/// # let dir = tempfile::tempdir()?;
/// let source = Source::spool(&b"1\n2\n3\n"[..], "stdin", Format::JsonLines, 1 << 20, dir.path())?;
/// let small = |input: &Value| if input.as_u64() < Some(3) { Ok(()) } else { Err("input: too large".to_owned()) };
/// let survey = survey(Tasks::new(source.read()?, Shape::Whole, 1, None, &small))?;
/// assert_eq!((survey.items, survey.tasks, survey.bad), (3, 2, 1));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input) for items that cannot be read, and for items that
/// fit one by one but not together.
pub fn survey(tasks: Tasks<'_>) -> Result<Survey> {
    let mut survey = Survey::default();
    for task in tasks {
        let Task { items, bad, .. } = task?;
        survey.items += items.len() as u64 + bad.len() as u64;
        survey.tasks += u64::from(!items.is_empty());
        survey.bad += bad.len() as u64;
        let room = KEPT_BAD - survey.first_bad.len().min(KEPT_BAD);
        survey.first_bad.extend(bad.into_iter().take(room));
    }
    Ok(survey)
}

/// Converts an item to a value that fits an input of this shape.
fn fit(found: Found, shape: &Shape, check: &Check<'_>) -> Result<Value, String> {
    match found {
        Found::Json(value) => match alone(value, shape, check) {
            (value, Ok(())) => Ok(value),
            (_, Err(problem)) => Err(problem),
        },
        Found::Row(cells) => fit_row(cells, shape, check),
    }
}

/// Checks an input made from one item, and returns the item.
fn alone(value: Value, shape: &Shape, check: &Check<'_>) -> (Value, Result<(), String>) {
    let Some(input) = shape.input(vec![value]) else {
        return (Value::Null, Ok(()));
    };
    let verdict = check(&input);
    (shape.items(input).pop().unwrap_or_default(), verdict)
}

fn fit_row(cells: Vec<(String, String)>, shape: &Shape, check: &Check<'_>) -> Result<Value, String> {
    // The cells that are not necessarily text.
    let mut open = Vec::new();
    let mut row = Map::new();
    for (column, text) in cells {
        match as_json(&text) {
            Some(json) => {
                row.insert(column.clone(), json);
                open.push((column, text));
            }
            None => {
                row.insert(column, Value::String(text));
            }
        }
    }
    let mut row = Value::Object(row);
    let mut before: Option<(String, String)> = None;
    loop {
        let (same, verdict) = alone(row, shape, check);
        row = same;
        let Err(problem) = verdict else { return Ok(row) };
        if let Some((column, first)) = before
            && is_about(&problem, &column)
        {
            // The cell does not fit as text either; the first error is more informative.
            return Err(first);
        }
        let Some(wrong) = open.iter().position(|(column, _)| is_about(&problem, column)) else {
            return Err(problem);
        };
        let (column, text) = open.swap_remove(wrong);
        if let Some(cell) = row.get_mut(&column) {
            *cell = Value::String(text);
        }
        before = Some((column, problem));
    }
}

/// Returns the value of a cell other than text, if it has one.
fn as_json(text: &str) -> Option<Value> {
    if text.is_empty() {
        return Some(Value::Null);
    }
    serde_json::from_str(text).ok().filter(|json: &Value| !json.is_string())
}

/// Returns whether the path at the start of `problem` leads to the field `column`.
fn is_about(problem: &str, column: &str) -> bool {
    let field = format!(".{column}");
    problem.match_indices(&field).any(|(at, _)| {
        let after = problem.get(at + field.len()..).unwrap_or_default();
        // After a `: `, the match would be in the message and not in the path.
        after.starts_with([':', '.', '[']) && !problem.get(..at).unwrap_or_default().contains(": ")
    })
}

#[cfg(test)]
mod tests;
