//! The tables of `docs/security.md`: what was measured for each threat, and what happens without a defense.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::cases::{Case, Threat};
use super::run::Measured;

/// The file that has the tables.
pub const FILE: &str = "docs/security.md";

/// A part of the file that is generated, between a line with its name and the next line with `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The table of threats.
    Threats,
    /// The table of defenses that were switched off.
    Weakened,
}

impl Part {
    fn marks(self) -> (&'static str, &'static str) {
        match self {
            Self::Threats => ("<!-- cargo xtask attack --write -->\n", "<!-- end of the threats -->\n"),
            Self::Weakened => (
                "<!-- cargo xtask attack --weakened --write -->\n",
                "<!-- end of the defenses -->\n",
            ),
        }
    }

    /// Where this part is in the text of the file.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub fn find(self, text: &str) -> std::ops::Range<usize> {
        let (start, end) = self.marks();
        let start = text.find(start).unwrap_or_else(|| panic!("{FILE} has no {start}")) + start.len();
        let end = text.find(end).unwrap_or_else(|| panic!("{FILE} has no {end}"));
        start..end
    }
}

/// What was measured for one threat: its cases, and the tests that stand beside them.
#[derive(Debug, Default)]
pub struct Row {
    /// Cases, and those of them that were as expected.
    pub cases: usize,
    good: usize,
    /// Tests that passed.
    pub tests: usize,
    figures: BTreeMap<String, f64>,
}

impl Row {
    /// Adds a case.
    pub fn add(&mut self, measured: &Measured) {
        self.cases += 1;
        self.good += usize::from(measured.misses.is_empty());
        for (name, value) in &measured.figures {
            self.figure(name, *value);
        }
    }

    /// Adds a figure; of several of the same name, the highest counts.
    pub fn figure(&mut self, name: &str, value: f64) {
        let known = self.figures.entry(name.to_owned()).or_insert(value);
        *known = known.max(value);
    }

    /// A figure, or `None` if it was not measured.
    pub fn measured(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }

    /// The figures in the threat's words, or the name of one that was not measured.
    pub fn words(&self, threat: &Threat) -> Result<String, String> {
        let mut words = String::new();
        let mut rest = threat.figure.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a brace is not closed")?;
            let value = match name {
                "cases" => self.cases as f64,
                "good" => self.good as f64,
                "tests" => self.tests as f64,
                name => *self
                    .figures
                    .get(name)
                    .ok_or_else(|| format!("`{name}` was not measured"))?,
            };
            let _ = write!(words, "{before}{}", number(name, value));
            rest = after;
        }
        Ok(words + rest)
    }
}

/// A figure as it is printed: whole, but for ratios and seconds.
fn number(name: &str, value: f64) -> String {
    match name {
        "slowdown" => format!("{value:.2}"),
        "wall" => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The table of threats, and `how` it was measured.
pub fn threats(rows: &[(Threat, String)], cases: &[Case], how: &str) -> String {
    let mut table = "\n| # | threat | defense | shown by | last measured |\n|---|---|---|---|---|\n".to_owned();
    for (threat, words) in rows {
        let _ = writeln!(table, "{}{words} |", fixed(threat, cases));
    }
    format!("{table}\n{how}\n\n")
}

/// A line of the table but for its figures.
pub fn fixed(threat: &Threat, cases: &[Case]) -> String {
    let names = cases
        .iter()
        .filter(|case| case.threat == threat.number)
        .map(|case| case.name.as_str())
        .collect();
    let mut shown = groups(names);
    shown.extend(
        threat
            .tests
            .iter()
            .map(|test| format!("test `{}`", test.split_once("::").map_or(&**test, |(_, name)| name))),
    );
    let Threat {
        number,
        threat,
        defense,
        ..
    } = threat;
    format!("| {number} | {threat} | {defense} | {} | ", shown.join(", "))
}

/// Names as code, where many that begin with the same word are one.
fn groups(names: Vec<&str>) -> Vec<String> {
    let word = |name: &str| name.split('-').next().unwrap_or_default().to_owned();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for name in &names {
        *count.entry(word(name)).or_default() += 1;
    }
    let mut shown: Vec<String> = Vec::new();
    for name in names {
        let text = match count[&word(name)] {
            1..=3 => format!("`{name}`"),
            many => format!("`{}-*` ({many})", word(name)),
        };
        if !shown.contains(&text) {
            shown.push(text);
        }
    }
    shown
}

/// The table of defenses: which one was off, the case, how it ended with the defense and what it missed without; and `how` it
/// was measured.
pub fn weakened(lines: &[[String; 4]], how: &str) -> String {
    let mut table = "\n| defense | case | with it | without it |\n|---|---|---|---|\n".to_owned();
    for [defense, case, with, without] in lines {
        let _ = writeln!(table, "| `{defense}` | `{case}` | {with} | {without} |");
    }
    format!("{table}\n{how}\n\n")
}
