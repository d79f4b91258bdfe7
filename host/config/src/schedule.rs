//! Schedules: the runs that `[schedules.NAME]` asks for, and the times at which they are due.
//!
//! Times are those of UTC, as the days of `[allowance]` are. This module starts nothing: what is due is decided by the
//! program that runs the schedules.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use croner::{CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday};
use serde::{Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::dirs::place;
use crate::error::FileError;
use crate::origin::Origin;
use crate::reader::{Section, TomlEntry};
use agenthost_core::date::{next_day, utc_date};
use agenthost_core::limits::units::{parse_duration, show_time};
use agenthost_core::limits::{LimitsPatch, Usd};

/// The shortest time between two runs of a schedule.
const SHORTEST: Duration = Duration::from_secs(1);
/// The milliseconds of a second and of a day.
const SECOND: u64 = 1_000;
const DAY: u64 = 86_400_000;
/// A time from which a cron expression is searched when it is read: the first of January 2024, before a leap day.
const SOME_TIME: u64 = 1_704_067_200_000;

/// One schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScheduleConfig {
    /// The times at which it is due.
    pub times: ScheduleTimes,
    /// The plugin: a path, relative to the folder of the file, or a reference.
    pub plugin: String,
    /// The input of its runs; `None` for an empty object.
    pub input: Option<ScheduleInput>,
    /// Values that replace fields of the input, by the name of the field.
    pub set: BTreeMap<String, ScheduleValue>,
    /// A file without which nothing is to be done: no run starts while it is empty.
    pub checklist: Option<PathBuf>,
    /// Further files whose change is a reason to run.
    pub watch: Vec<PathBuf>,
    /// The decision if neither `checklist` nor `watch` has changed since the last run that ended well.
    pub unchanged: WhenUnchanged,
    /// The limits of a run, as they are written, by key.
    pub limits: BTreeMap<String, String>,
    /// The most money that its runs of one day may cost together.
    pub cost_per_day: Usd,
    /// The decision if it is due while its last run is still going on.
    pub overlap: WhenOverlapping,
    /// The decision if it was due while nothing could start it.
    pub missed: WhenMissed,
    /// `false` if it is switched off.
    pub enabled: bool,
    /// The place of its section.
    #[serde(skip)]
    pub origin: Origin,
    /// The files that it reads, with the links above them followed when the configuration was read.
    #[serde(skip)]
    places: BTreeMap<PathBuf, PathBuf>,
}

/// The times at which a schedule is due.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleTimes {
    /// Again and again after this time.
    Every(Duration),
    /// At the times of a cron expression.
    Cron(CronExpression),
}

/// The input of the runs of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleInput {
    /// A file with JSON.
    File(PathBuf),
    /// A value in the configuration.
    Value(Value),
}

/// The value of a field of the input.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleValue {
    /// The content of a file: the value of a `.json` file, and the text of any other.
    File(PathBuf),
    /// A value in the configuration.
    Value(Value),
}

/// A decision about a schedule whose files have not changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenUnchanged {
    /// Do not run.
    #[default]
    Skip,
    /// Run all the same.
    Run,
}

/// A decision about a schedule that is due while its last run is still going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenOverlapping {
    /// Wait for the next time.
    #[default]
    Skip,
    /// Run once, as soon as the last run has ended.
    Wait,
}

/// A decision about a schedule that was due while nothing could start it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenMissed {
    /// Wait for the next time.
    #[default]
    Skip,
    /// Run once, as soon as possible.
    Once,
}

impl ScheduleConfig {
    /// Returns a digest of everything that the section sets. It changes with the schedule.
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Returns the limits of a run.
    pub fn limits(&self) -> LimitsPatch {
        let mut patch = LimitsPatch::default();
        for (key, text) in &self.limits {
            // They were valid when the file was read.
            let _ = patch.set(key, text);
        }
        patch
    }

    /// Returns the folder from which the schedule's plugin is found.
    pub fn dir(&self) -> &Path {
        self.origin.file().parent().unwrap_or(Path::new("/"))
    }

    /// Returns all files that it reads, with their keys.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let input = self.input.iter().filter_map(|input| match input {
            ScheduleInput::File(path) => Some(("input", path.as_path())),
            ScheduleInput::Value(_) => None,
        });
        let set = self.set.values().filter_map(|value| match value {
            ScheduleValue::File(path) => Some(("set", path.as_path())),
            ScheduleValue::Value(_) => None,
        });
        let checklist = self.checklist.iter().map(|path| ("checklist", path.as_path()));
        let watch = self.watch.iter().map(|path| ("watch", path.as_path()));
        input.chain(set).chain(checklist).chain(watch)
    }

    /// Returns the place of one of its files, with the links above it followed when the configuration was read. A plugin
    /// may replace a folder by a link later, so the file is read there, and nothing on the way to it may be a link.
    pub fn place<'a>(&'a self, file: &'a Path) -> &'a Path {
        self.places.get(file).map_or(file, PathBuf::as_path)
    }
}

impl ScheduleTimes {
    /// Returns the first time after `after_ms`, in milliseconds since 1970; `None` if there is none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use agenthost_config::ScheduleTimes;
    ///
    /// let every = ScheduleTimes::Every(Duration::from_secs(1_800));
    /// assert_eq!(every.next(10), Some(1_800_010));
    /// let at_eight = ScheduleTimes::Cron("0 8 * * *".parse()?);
    /// assert_eq!(at_eight.next(8 * 3_600_000), Some(32 * 3_600_000), "it is in UTC");
    /// # Ok::<(), String>(())
    /// ```
    pub fn next(&self, after_ms: u64) -> Option<u64> {
        match self {
            Self::Every(time) => after_ms.checked_add(u64::try_from(time.as_millis()).ok()?),
            Self::Cron(cron) => cron.next(after_ms),
        }
    }

    /// Returns the last time of the series that begins after `from_ms` and is not after `until_ms`; `None` if there is
    /// none.
    pub fn last(&self, from_ms: u64, until_ms: u64) -> Option<u64> {
        let first = self.next(from_ms).filter(|first| *first <= until_ms)?;
        match self {
            Self::Every(time) => {
                let step = u64::try_from(time.as_millis()).ok()?.max(1);
                Some(first + (until_ms - first) / step * step)
            }
            Self::Cron(cron) => cron.previous(until_ms),
        }
    }

    /// Returns the most times in one day. `now_ms` is the present time, in milliseconds since 1970.
    pub fn per_day(&self, now_ms: u64) -> u64 {
        match self {
            Self::Every(time) => DAY.div_ceil(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
            Self::Cron(_) => {
                // A cron expression has the same times on all days that match it, so those of the next one are counted.
                let mut next = self.next(next_day(now_ms) - 1);
                let end = next.map_or(0, next_day);
                let mut count = 0;
                while let Some(at) = next.filter(|at| *at < end) {
                    count += 1;
                    next = self.next(at);
                }
                count
            }
        }
    }
}

/// Writes `every 30m` or `at "0 8 * * *" (UTC)`.
impl fmt::Display for ScheduleTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(time) => write!(f, "every {}", show_time(*time)),
            Self::Cron(cron) => write!(f, "at \"{cron}\" UTC"),
        }
    }
}

/// A cron expression of five fields: minute, hour, day of the month, month, day of the week.
#[derive(Clone, Debug)]
pub struct CronExpression {
    text: String,
    cron: Box<Cron>,
}

impl CronExpression {
    fn next(&self, after_ms: u64) -> Option<u64> {
        let found = self.cron.find_next_occurrence(&UtcSecond::of(after_ms), false);
        Some(found.ok()?.0 * SECOND)
    }

    /// Returns the last time that is not after `until_ms`.
    fn previous(&self, until_ms: u64) -> Option<u64> {
        let found = self.cron.find_previous_occurrence(&UtcSecond::of(until_ms), true);
        Some(found.ok()?.0 * SECOND)
    }
}

impl FromStr for CronExpression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser
            .parse(text)
            .map_err(|error| format!("`{text}` is not a cron expression: {error}"))?;
        let expression = Self {
            text: text.trim().to_owned(),
            cron: Box::new(cron),
        };
        match expression.next(SOME_TIME) {
            Some(_) => Ok(expression),
            None => Err(format!("no time matches `{text}`")),
        }
    }
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for CronExpression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Serialize for CronExpression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// A second in UTC, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UtcSecond(u64);

impl UtcSecond {
    const OF_DAY: u64 = 86_400;

    fn of(ms: u64) -> Self {
        Self(ms / SECOND)
    }
}

impl CronDateTime for UtcSecond {
    fn to_civil(&self) -> CivilDateTime {
        let (year, month, day) = utc_date(self.0.saturating_mul(SECOND));
        let small = |number: u64| u32::try_from(number).unwrap_or_default();
        let of_day = self.0 % Self::OF_DAY;
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(i32::try_from(year).unwrap_or(i32::MAX), small(month), small(day)),
            CivilTime::from_parts_unchecked(small(of_day / 3_600), small(of_day / 60 % 60), small(of_day % 60)),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        // The first of January 1970 was a Thursday.
        Weekday::from_days_from_sunday(u32::try_from((self.0 / Self::OF_DAY + 4) % 7).unwrap_or_default())
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, croner::errors::CronError> {
        let invalid = || croner::errors::CronError::InvalidDate;
        // Days from 1970, by the calendar that begins each year in March.
        let (year, month) = match civil.month() {
            month @ 1..=2 => (i64::from(civil.year()) - 1, i64::from(month) + 9),
            month => (i64::from(civil.year()), i64::from(month) - 3),
        };
        let year = u64::try_from(year).map_err(|_| invalid())?;
        let of_year = u64::try_from((153 * month + 2) / 5).map_err(|_| invalid())? + u64::from(civil.day()) - 1;
        let days = 365 * year + year / 4 - year / 100 + year / 400 + of_year;
        let days = days.checked_sub(719_468).ok_or_else(invalid)?;
        let of_day = u64::from(civil.hour()) * 3_600 + u64::from(civil.minute()) * 60 + u64::from(civil.second());
        Ok(Resolution::Single(Self(days * Self::OF_DAY + of_day)))
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add_signed(seconds).map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> std::cmp::Ordering {
        self.cmp(other)
    }
}

const TIMES_HINT: &str = "Write every = \"30m\", or cron = \"0 8 * * 1-5\" for 8:00 UTC on weekdays.";
const COST_HINT: &str = "Write the most that its runs of one day may cost, such as cost-per-day = \"$0.40\".";

/// Reads one entry of `[schedules]`.
pub(crate) fn read(entry: &TomlEntry<'_>) -> Result<ScheduleConfig, FileError> {
    let section = entry.section()?;
    section.only(&[
        "every",
        "cron",
        "plugin",
        "input",
        "set",
        "checklist",
        "watch",
        "unchanged",
        "limits",
        "cost-per-day",
        "overlap",
        "missed",
        "enabled",
    ])?;
    let path = |text: &str| section.source.env.resolve(text, section.source.dir());
    let missing = |key: &str, hint: &'static str| entry.wrong(format!("it has no `{key}`")).with_advice(hint);
    let cost = section
        .get("cost-per-day")
        .ok_or_else(|| missing("cost-per-day", COST_HINT))?;
    let mut schedule = ScheduleConfig {
        times: times(entry, &section)?,
        plugin: section
            .get("plugin")
            .ok_or_else(|| missing("plugin", "Name a plugin as for `agenthost run`, such as agenthost:ask."))?
            .text_as(plugin)?,
        input: section.get("input").map(|entry| input(&entry)).transpose()?,
        set: section
            .get("set")
            .map_or_else(|| Ok(BTreeMap::new()), |entry| set(&entry))?,
        checklist: section.get("checklist").map(|entry| entry.text_as(path)).transpose()?,
        watch: section
            .get("watch")
            .map_or_else(|| Ok(Vec::new()), |entry| entry.list_as(path))?,
        unchanged: choice(
            &section,
            "unchanged",
            &[("skip", WhenUnchanged::Skip), ("run", WhenUnchanged::Run)],
        )?,
        limits: section
            .get("limits")
            .map_or_else(|| Ok(BTreeMap::new()), |entry| limits(&entry))?,
        cost_per_day: cost
            .number_as(positive_usd)
            .map_err(|error| error.with_advice(COST_HINT))?,
        overlap: choice(
            &section,
            "overlap",
            &[("skip", WhenOverlapping::Skip), ("wait", WhenOverlapping::Wait)],
        )?,
        missed: choice(
            &section,
            "missed",
            &[("skip", WhenMissed::Skip), ("once", WhenMissed::Once)],
        )?,
        enabled: section
            .get("enabled")
            .map(|entry| entry.boolean())
            .transpose()?
            .unwrap_or(true),
        origin: entry.origin(),
        places: BTreeMap::new(),
    };
    let places = schedule.files().filter_map(|(_, path)| {
        let folder = place(path.parent()?);
        Some((path.to_owned(), folder.join(path.file_name()?)))
    });
    schedule.places = places.collect();
    Ok(schedule)
}

fn times(entry: &TomlEntry<'_>, section: &Section<'_>) -> Result<ScheduleTimes, FileError> {
    match (section.get("every"), section.get("cron")) {
        (Some(every), None) => every
            .number_as(|text| match parse_duration(text) {
                Ok(time) if time < SHORTEST => Err("it must be at least 1s".to_owned()),
                Ok(time) => Ok(ScheduleTimes::Every(time)),
                Err(error) => Err(error.to_string()),
            })
            .map_err(|error| error.with_advice(TIMES_HINT)),
        (None, Some(cron)) => cron
            .text_as(|text| text.parse().map(ScheduleTimes::Cron))
            .map_err(|error| error.with_advice(TIMES_HINT)),
        (Some(_), Some(cron)) => Err(cron
            .wrong("there is an `every` too; write one of them")
            .with_advice(TIMES_HINT)),
        (None, None) => Err(entry.wrong("it has neither `every` nor `cron`").with_advice(TIMES_HINT)),
    }
}

fn plugin(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("the name is empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn input(entry: &TomlEntry<'_>) -> Result<ScheduleInput, FileError> {
    let source = entry.source();
    match entry.section_unless_text()? {
        Some(_) => entry.json().map(ScheduleInput::Value),
        None => entry.text_as(|text| source.env.resolve(text, source.dir()).map(ScheduleInput::File)),
    }
}

/// Reads the table of `set`. A string that begins with `@` names a file; `@@` is an at sign.
fn set(entry: &TomlEntry<'_>) -> Result<BTreeMap<String, ScheduleValue>, FileError> {
    let section = entry.section()?;
    let value = |entry: TomlEntry<'_>| {
        let value = match entry.json()? {
            Value::String(text) => match text.strip_prefix('@') {
                Some(literal) if literal.starts_with('@') => ScheduleValue::Value(literal.into()),
                Some(file) => {
                    let path = section.source.env.resolve(file, section.source.dir());
                    ScheduleValue::File(path.map_err(|problem| entry.wrong(problem))?)
                }
                None => ScheduleValue::Value(text.into()),
            },
            other => ScheduleValue::Value(other),
        };
        Ok((entry.key.to_owned(), value))
    };
    section.entries().map(value).collect()
}

fn limits(entry: &TomlEntry<'_>) -> Result<BTreeMap<String, String>, FileError> {
    let section = entry.section()?;
    section.only(LimitsPatch::KEYS)?;
    let limit = |entry: TomlEntry<'_>| {
        let text = entry.number_as(|text| {
            let set = LimitsPatch::default().set(entry.key, text);
            set.map(|()| text.to_owned())
        })?;
        Ok((entry.key.to_owned(), text))
    };
    section.entries().map(limit).collect()
}

fn positive_usd(text: &str) -> Result<Usd, String> {
    if text.trim() == "none" {
        return Err("a schedule must have a limit on its cost".to_owned());
    }
    match text.parse::<Usd>() {
        Ok(Usd::ZERO) => Err("it must be more than zero".to_owned()),
        Ok(cost) => Ok(cost),
        Err(error) => Err(error.to_string()),
    }
}

fn choice<T: Copy + Default>(section: &Section<'_>, key: &str, choices: &[(&str, T)]) -> Result<T, FileError> {
    let Some(entry) = section.get(key) else {
        return Ok(T::default());
    };
    entry.text_as(|text| {
        let known = choices.iter().find(|(name, _)| *name == text);
        known.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            format!("`{text}` is not known; write {}", names.join(" or "))
        })
    })
}

/// Reads the name of a schedule.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let well_formed = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    well_formed
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not the name of a schedule; write 1 to 64 of a-z, 0-9 and -"))
}

#[cfg(test)]
mod tests;
