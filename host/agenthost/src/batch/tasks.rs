//! Making inputs from items: one by one, or a number of them for a plugin that takes a list.
//!
//! The tasks of a batch are a function of its items, its size and its limit alone: task `n` of size `s` holds the items
//! `n * s` to `n * s + s - 1`, except those that fit no input. So a batch that is read again has the same tasks.
//!
//! A cell of a CSV file is text that may represent a number. It is read as JSON first, an empty one as `null`, and
//! stays text if it is not JSON or if the plugin's type does not accept the JSON value. `TRUE` and `False` are also
//! booleans, and `41.0` is also a whole number, because Excel and pandas write them so. A column that the plugin's input
//! does not have is carried through to the results. An item that is one field of the input keeps all cells as text.

use std::collections::{BTreeMap, BTreeSet};

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
    /// A record with an item in this field is an input.
    Item(String),
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

    /// Returns the input made from these items; `None` for a [`Shape::Whole`] or [`Shape::Item`] without items.
    pub fn input(&self, mut items: Vec<Value>) -> Option<Value> {
        match self {
            Self::Whole => items.pop(),
            Self::List => Some(Value::Array(items)),
            Self::Field(field) => Some(Value::Object(Map::from_iter([(field.clone(), Value::Array(items))]))),
            Self::Item(field) => Some(Value::Object(Map::from_iter([(field.clone(), items.pop()?)]))),
        }
    }

    /// Returns the items from which an input was made.
    fn items(&self, mut input: Value) -> Vec<Value> {
        let list = match self {
            Self::Whole => return vec![input],
            Self::List => input,
            Self::Field(field) => input.get_mut(field).map(Value::take).unwrap_or_default(),
            Self::Item(field) => return vec![input.get_mut(field).map(Value::take).unwrap_or_default()],
        };
        match list {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }
}

/// The way in which an input is made from items, and the fields that are the same in every input.
#[derive(Debug, Clone)]
struct InputForm {
    shape: Shape,
    set: Map<String, Value>,
}

impl InputForm {
    fn input(&self, items: Vec<Value>) -> Option<Value> {
        let mut input = self.shape.input(items)?;
        if let Value::Object(fields) = &mut input {
            fields.extend(self.set.clone());
        }
        Some(input)
    }

    /// Returns the items from which an input was made, without the fields that are set.
    fn items(&self, mut input: Value) -> Vec<Value> {
        if let Value::Object(fields) = &mut input {
            fields.retain(|name, _| !self.set.contains_key(name));
        }
        self.shape.items(input)
    }
}

/// Checks an input. The error names the path: `input.age: expected u32, found string`.
pub type Check<'c> = dyn Fn(&Value) -> Result<(), String> + 'c;

/// The data of an item that its line of the results repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// The item's own id, if a column or field has it.
    pub id: Option<Value>,
    /// The columns that the plugin does not know; all columns or fields with [`Tasks::keep_all`].
    pub kept: Map<String, Value>,
}

/// An item of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskItem {
    /// The place of the item.
    pub at: ItemLocation,
    /// The data that its line of the results repeats.
    pub origin: Origin,
}

impl From<ItemLocation> for TaskItem {
    fn from(at: ItemLocation) -> Self {
        Self {
            at,
            origin: Origin::default(),
        }
    }
}

/// An item that fits no input.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bad {
    /// The place of the item.
    pub at: ItemLocation,
    /// The reason why it does not fit.
    pub reason: String,
    /// The data that its line of the results repeats, as far as it could be read.
    pub origin: Origin,
}

impl Bad {
    /// Creates an item that fits no input for a reason.
    ///
    /// ```
    /// use agenthost::batch::items::ItemLocation;
    /// use agenthost::batch::tasks::Bad;
    ///
    /// let bad = Bad::new(ItemLocation { index: 2, line: 3 }, "not a number");
    /// assert_eq!((bad.at.line, bad.reason.as_str()), (3, "not a number"));
    /// ```
    pub fn new(item: impl Into<TaskItem>, reason: impl Into<String>) -> Self {
        let TaskItem { at, origin } = item.into();
        Self {
            at,
            reason: reason.into(),
            origin,
        }
    }
}

/// A task to be run, and the items that were left out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The number of the task, from 0.
    pub number: u64,
    /// Its items.
    pub items: Vec<TaskItem>,
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
    form: InputForm,
    size: u64,
    left: u64,
    number: u64,
    check: &'c Check<'c>,
    known: Option<BTreeSet<String>>,
    id: Option<String>,
    keeps_all: bool,
}

impl<'c> Tasks<'c> {
    /// Returns the tasks of the first `limit` items, with `size` items each.
    pub fn new(reader: Reader, shape: Shape, size: u64, limit: Option<u64>, check: &'c Check<'c>) -> Self {
        Self {
            reader: Some(reader),
            form: InputForm { shape, set: Map::new() },
            size: size.max(1),
            left: limit.unwrap_or(u64::MAX),
            number: 0,
            check,
            known: None,
            id: None,
            keeps_all: false,
        }
    }

    /// Gives the plugin only the columns of CSV that are `fields` of its input, and keeps the others for the results.
    /// If no column is one, all are given to it, so that the check names the first that does not fit.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::items::{Format, Source};
    /// use agenthost::batch::tasks::{Shape, Tasks};
    /// use serde_json::{Value, json};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let source = Source::spool(&b"text,owner\nhi,Ada\n"[..], "stdin", Format::Csv, 1 << 20, dir.path())?;
    /// let any = |_: &Value| Ok(());
    /// let mut tasks = Tasks::new(source.read()?, Shape::Whole, 1, None, &any).fields(["text".to_owned()]);
    /// let task = tasks.next().unwrap()?;
    /// assert_eq!(task.input, Some(json!({"text": "hi"})));
    /// assert_eq!(task.items[0].origin.kept["owner"], "Ada");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn fields(mut self, fields: impl IntoIterator<Item = String>) -> Self {
        self.known = Some(fields.into_iter().collect());
        self
    }

    /// Gives every input these fields. A field of an item with the same name is not given to the plugin.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::items::{Format, Source};
    /// use agenthost::batch::tasks::{Shape, Tasks};
    /// use serde_json::{Map, Value, json};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let source = Source::spool(&b"zip\n007\n"[..], "stdin", Format::Csv, 1 << 20, dir.path())?;
    /// let any = |_: &Value| Ok(());
    /// let set = Map::from_iter([("task".to_owned(), json!("Sort {{zip}}"))]);
    /// let mut tasks = Tasks::new(source.read()?, Shape::Item("row".into()), 1, None, &any).set(set);
    /// let input = tasks.next().unwrap()?.input;
    /// assert_eq!(input, Some(json!({"row": {"zip": "007"}, "task": "Sort {{zip}}"})));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn set(mut self, fields: Map<String, Value>) -> Self {
        self.form.set = fields;
        self
    }

    /// Takes each item's own id from this column of CSV or field of an object. A field that the plugin does not know is
    /// not given to it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::items::{Format, Source};
    /// use agenthost::batch::tasks::{Shape, Tasks};
    /// use serde_json::{Value, json};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let line = &br#"{"id": 7, "text": "hi"}"#[..];
    /// let source = Source::spool(line, "stdin", Format::JsonLines, 1 << 20, dir.path())?;
    /// let any = |_: &Value| Ok(());
    /// let tasks = Tasks::new(source.read()?, Shape::Whole, 1, None, &any).fields(["text".to_owned()]);
    /// let task = tasks.id_column("id").next().unwrap()?;
    /// assert_eq!(task.items[0].origin.id, Some(json!(7)));
    /// assert_eq!(task.input, Some(json!({"text": "hi"})));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn id_column(mut self, name: impl Into<String>) -> Self {
        self.id = Some(name.into());
        self
    }

    /// Keeps all columns or fields of each item for the results; an item that is neither a row nor an object is kept as
    /// `input`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::items::{Format, Source};
    /// use agenthost::batch::tasks::{Shape, Tasks};
    /// use serde_json::Value;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let source = Source::spool(&b"42"[..], "stdin", Format::JsonLines, 1 << 20, dir.path())?;
    /// let any = |_: &Value| Ok(());
    /// let task = Tasks::new(source.read()?, Shape::Whole, 1, None, &any).keep_all().next().unwrap()?;
    /// assert_eq!(task.items[0].origin.kept["input"], 42);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn keep_all(mut self) -> Self {
        self.keeps_all = true;
        self
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
            let mut item = TaskItem::from(at);
            let keep = Keep {
                known: self.known.as_ref(),
                id: self.id.as_deref(),
                all: self.keeps_all,
            };
            let found = found.map(|found| keep.take(found, &mut item.origin));
            match found.and_then(|found| fit(found, &self.form, self.check)) {
                Ok(value) => {
                    items.push(item);
                    values.push(value);
                }
                Err(reason) => bad.push(Bad::new(item, reason)),
            }
        }
        if items.is_empty() && bad.is_empty() {
            return Ok(None);
        }
        let input = match items.is_empty() {
            true => None,
            false => self.form.input(values),
        };
        if let (Some(input), Some(first), Some(last)) = (&input, items.first(), items.last())
            && first.at != last.at
        {
            (self.check)(input).map_err(|problem| BatchError::Together {
                name: reader.name().to_owned(),
                first: first.at.line,
                last: last.at.line,
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

/// A part of a batch: the tasks of one of several processes that share the work.
///
/// The parts are contiguous, nearly equal, and depend on the number of tasks alone. So the results of the parts in their
/// order are the results of the whole.
///
/// ```
/// use agenthost::batch::tasks::Shard;
///
/// let shard: Shard = "2/3".parse().unwrap();
/// assert_eq!(shard.range(10), 3..6);
/// assert!("0/3".parse::<Shard>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: u64,
    of: u64,
}

impl Shard {
    /// Returns the numbers of its tasks, of `tasks` in the whole.
    pub fn range(self, tasks: u64) -> std::ops::Range<u64> {
        let end = |number: u64| {
            let end = u128::from(tasks) * u128::from(number) / u128::from(self.of);
            u64::try_from(end).unwrap_or(tasks)
        };
        end(self.number - 1)..end(self.number)
    }

    /// Returns whether it is the first part.
    pub fn is_first(self) -> bool {
        self.number == 1
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            Some((0, _)) => Err("the first part is 1".into()),
            Some((number, of)) => Err(format!("part {number} of {of} does not exist")),
            None => Err("not two numbers such as 1/4".into()),
        }
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
pub fn survey(tasks: impl Iterator<Item = Result<Task>>) -> Result<Survey> {
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
fn fit(found: Found, form: &InputForm, check: &Check<'_>) -> Result<Value, String> {
    let value = match (found, &form.shape) {
        (Found::Json(value), _) => value,
        (Found::Row(cells), Shape::Item(_)) => {
            let cells = cells.into_iter().map(|(name, text)| (name, Value::String(text)));
            Value::Object(cells.collect())
        }
        (Found::Row(cells), _) => return fit_row(cells, form, check),
    };
    match alone(value, form, check) {
        (value, Ok(())) => Ok(value),
        (_, Err(problem)) => Err(problem),
    }
}

/// Checks an input made from one item, and returns the item.
fn alone(value: Value, form: &InputForm, check: &Check<'_>) -> (Value, Result<(), String>) {
    let Some(input) = form.input(vec![value]) else {
        return (Value::Null, Ok(()));
    };
    let verdict = check(&input);
    (form.items(input).pop().unwrap_or_default(), verdict)
}

/// The parts of items that are kept for the results.
struct Keep<'t> {
    known: Option<&'t BTreeSet<String>>,
    id: Option<&'t str>,
    all: bool,
}

impl Keep<'_> {
    fn is_known(&self, name: &str) -> bool {
        self.known.is_none_or(|known| known.contains(name))
    }

    /// Moves the parts that the plugin does not know from `found` to `origin`, and copies those that are kept anyway.
    fn take(&self, found: Found, origin: &mut Origin) -> Found {
        match found {
            Found::Row(cells) => {
                if let Some((_, id)) = cells.iter().find(|(name, _)| Some(name.as_str()) == self.id) {
                    origin.id = Some(Value::String(id.clone()));
                }
                let is_id = |name: &str| Some(name) == self.id;
                let some_known = cells.iter().any(|(name, _)| self.is_known(name));
                let mut given = Vec::with_capacity(cells.len());
                for (name, cell) in cells {
                    let is_given = self.is_known(&name) || !some_known;
                    if self.all || (!is_given && !is_id(&name)) {
                        origin.kept.insert(name.clone(), Value::String(cell.clone()));
                    }
                    if is_given {
                        given.push((name, cell));
                    }
                }
                Found::Row(given)
            }
            Found::Json(Value::Object(mut fields)) => {
                origin.id = self.id.and_then(|id| fields.get(id)).cloned();
                if self.all {
                    origin.kept = fields.clone();
                    if self.known.is_none() {
                        origin.kept.insert("input".to_owned(), Value::Object(fields.clone()));
                    }
                }
                if let Some(id) = self.id.filter(|id| !self.is_known(id)) {
                    fields.shift_remove(id);
                }
                Found::Json(Value::Object(fields))
            }
            Found::Json(value) => {
                if self.all {
                    origin.kept.insert("input".to_owned(), value.clone());
                }
                Found::Json(value)
            }
        }
    }
}

fn fit_row(cells: Vec<(String, String)>, form: &InputForm, check: &Check<'_>) -> Result<Value, String> {
    // The further forms of a cell, the last one first.
    let mut open: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut row = Map::new();
    for (column, text) in cells {
        let mut forms = forms(text);
        row.insert(column.clone(), forms.pop().unwrap_or_default());
        open.insert(column, forms);
    }
    let mut row = Value::Object(row);
    // The first problem with a cell is more informative than those with its other forms.
    let mut first: Option<(String, String)> = None;
    loop {
        let (same, verdict) = alone(row, form, check);
        row = same;
        let Err(problem) = verdict else { return Ok(row) };
        let before = first.take().filter(|(column, _)| is_about(&problem, column));
        let next = open
            .iter_mut()
            .find(|(column, forms)| !forms.is_empty() && is_about(&problem, column));
        let Some((column, forms)) = next else {
            return Err(before.map_or(problem, |(_, first)| first));
        };
        if let (Some(cell), Some(form)) = (row.get_mut(column), forms.pop()) {
            *cell = form;
        }
        first = before.or_else(|| Some((column.clone(), problem)));
    }
}

/// Returns the values that a cell may represent, the most likely one last and the text itself first.
fn forms(text: String) -> Vec<Value> {
    if text.is_empty() {
        return vec![Value::String(text), Value::Null];
    }
    let trimmed = text.trim();
    let mut forms = Vec::new();
    if trimmed.eq_ignore_ascii_case("true") || trimmed.eq_ignore_ascii_case("false") {
        forms.push(Value::Bool(trimmed.eq_ignore_ascii_case("true")));
    } else if let Some(json) = serde_json::from_str(&text)
        .ok()
        .filter(|json: &Value| !json.is_string())
    {
        // pandas writes the whole numbers of a column with gaps as 41.0.
        let whole = json.as_number().filter(|number| number.is_f64()).and_then(|_| {
            let digits = trimmed.trim_end_matches('0').strip_suffix('.')?;
            serde_json::from_str(digits).ok().filter(Value::is_number)
        });
        forms.extend(whole);
        forms.push(json);
    }
    forms.insert(0, Value::String(text));
    forms
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
