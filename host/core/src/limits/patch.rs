//! Limits as an operator writes them: each may be missing, a value with a unit, or the word `none`.
//!
//! One function reads text, TOML and JSON, so that a flag and a file mean the same. [`Limits`](super::Limits) defines
//! how the values combine.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::units::{parse_bytes, parse_count, parse_duration};
use super::{InvalidLimit, Usd};

/// One limit as it is written: a value, or the word `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap<T> {
    /// At most this much.
    At(T),
    /// Explicitly no limit.
    Unlimited,
}

impl<T> Cap<T> {
    /// Parses `none`, or a value with `parse`, such as [`parse_count`].
    ///
    /// ```
    /// use agenthost_core::limits::Cap;
    /// use agenthost_core::limits::units::parse_count;
    ///
    /// assert_eq!(Cap::parse("200k", parse_count)?, Cap::At(200_000));
    /// assert_eq!(Cap::parse("none", parse_count)?, Cap::Unlimited);
    /// # Ok::<(), agenthost_core::limits::InvalidLimit>(())
    /// ```
    pub fn parse(text: &str, parse: impl FnOnce(&str) -> Result<T, InvalidLimit>) -> Result<Self, InvalidLimit> {
        match text.trim() {
            "none" => Ok(Self::Unlimited),
            text => parse(text)
                .map(Self::At)
                .map_err(|error| InvalidLimit::OrNone(Box::new(error))),
        }
    }
}

/// Limits as an operator wrote them. A field that is `None` was not given.
///
/// In TOML or JSON the keys are [`LimitsPatch::KEYS`]; each takes a number, or a string with a unit, or `"none"`. Other
/// keys are rejected.
///
/// ```
/// use agenthost_core::limits::{Cap, LimitsPatch};
///
/// let mut patch = LimitsPatch::default();
/// patch.set("memory", "128MiB")?;
/// patch.set("timeout", "90s")?;
/// assert_eq!(patch.memory, Some(Cap::At(128 << 20)));
/// assert!(patch.set("money", "1").is_err());
///
/// let file: LimitsPatch = serde_json::from_str(r#"{"memory": "none", "calls": 10}"#).unwrap();
/// let both = patch.over(file);
/// assert_eq!((both.memory, both.calls), (Some(Cap::At(128 << 20)), Some(Cap::At(10))));
/// # Ok::<(), agenthost_core::limits::InvalidLimit>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitsPatch {
    /// `tokens`: a count, such as `200000` or `"200k"`.
    pub tokens: Option<Cap<u64>>,
    /// `cost`: US dollars, such as `0.5` or `"$1.20"`.
    pub cost: Option<Cap<Usd>>,
    /// `calls`: a count.
    pub calls: Option<Cap<u64>>,
    /// `fuel`: a count, such as `"20G"`.
    pub fuel: Option<Cap<u64>>,
    /// `memory`: bytes, such as `"64MiB"`.
    pub memory: Option<Cap<u64>>,
    /// `timeout`: seconds, or a duration such as `"1h30m"`; not zero.
    pub timeout: Option<Cap<Duration>>,
    /// `tasks`: a count.
    pub tasks: Option<Cap<u64>>,
    /// `depth`: a count.
    pub depth: Option<Cap<u32>>,
}

impl LimitsPatch {
    /// The keys of a limits table.
    pub const KEYS: &'static [&'static str] =
        &["tokens", "cost", "calls", "fuel", "memory", "timeout", "tasks", "depth"];

    /// Sets the limit `key` (one of [`Self::KEYS`]) from `text`. The error lists the accepted forms.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), InvalidLimit> {
        match key {
            "tokens" => self.tokens = Some(Cap::parse(text, parse_count)?),
            "cost" => self.cost = Some(Cap::parse(text, str::parse)?),
            "calls" => self.calls = Some(Cap::parse(text, parse_count)?),
            "fuel" => self.fuel = Some(Cap::parse(text, parse_count)?),
            "memory" => self.memory = Some(Cap::parse(text, parse_bytes)?),
            "timeout" => self.timeout = Some(Cap::parse(text, parse_duration)?),
            "tasks" => self.tasks = Some(Cap::parse(text, parse_count)?),
            "depth" => self.depth = Some(Cap::parse(text, parse_depth)?),
            _ => {
                return Err(InvalidLimit::UnknownKey {
                    key: key.to_owned(),
                    known: Self::KEYS,
                });
            }
        }
        Ok(())
    }

    /// Returns this patch, with missing values taken from `base`.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        Self {
            tokens: self.tokens.or(base.tokens),
            cost: self.cost.or(base.cost),
            calls: self.calls.or(base.calls),
            fuel: self.fuel.or(base.fuel),
            memory: self.memory.or(base.memory),
            timeout: self.timeout.or(base.timeout),
            tasks: self.tasks.or(base.tasks),
            depth: self.depth.or(base.depth),
        }
    }
}

/// Gives the same limits.
impl From<&LimitsPatch> for LimitsPatch {
    fn from(patch: &LimitsPatch) -> Self {
        patch.clone()
    }
}

fn parse_depth(text: &str) -> Result<u32, InvalidLimit> {
    u32::try_from(parse_count(text)?).map_err(|_| InvalidLimit::TooLarge {
        text: text.to_owned(),
        most: u32::MAX,
    })
}

impl<'de> Deserialize<'de> for LimitsPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = LimitsPatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of limits")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LimitsPatch, A::Error> {
                let mut patch = LimitsPatch::default();
                while let Some(key) = map.next_key::<String>()? {
                    let LimitText(text) = map.next_value()?;
                    patch
                        .set(&key, &text)
                        .map_err(|error| de::Error::custom(format_args!("`{key}`: {error}")))?;
                }
                Ok(patch)
            }
        }

        deserializer.deserialize_map(Table)
    }
}

/// A number or a string, as text, so that the same rules apply to both.
struct LimitText(String);

impl<'de> Deserialize<'de> for LimitText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = LimitText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<LimitText, E> {
                Ok(LimitText(value.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<LimitText, E> {
                Ok(LimitText(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<LimitText, E> {
                Ok(LimitText(value.to_string()))
            }

            // The shortest text that parses back to `value`: the digits as they were typed, for any sensible amount.
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<LimitText, E> {
                Ok(LimitText(value.to_string()))
            }
        }

        deserializer.deserialize_any(NumberOrText)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    fn patch(toml: &str) -> Result<LimitsPatch, String> {
        toml::from_str(toml).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_table_takes_numbers_and_units() {
        let patch = patch(
            "tokens = \"200k\"\ncost = 0.1\ncalls = 5\nfuel = \"20G\"\nmemory = \"64MiB\"\ntimeout = \"1h30m\"\ntasks = 9\ndepth = 2",
        )
        .unwrap();
        let limits = Limits::none().overridden_by(&patch);
        assert_eq!(limits.tokens, Some(200_000));
        assert_eq!(limits.cost, Some(Usd::from_pico(100_000_000_000)));
        assert_eq!(limits.calls, Some(5));
        assert_eq!(limits.fuel, Some(20_000_000_000));
        assert_eq!(limits.memory, Some(64 << 20));
        assert_eq!(limits.timeout, Some(Duration::from_secs(5_400)));
        assert_eq!((limits.tasks, limits.depth), (Some(9), Some(2)));
    }

    #[test]
    fn none_takes_a_limit_away_and_silence_keeps_it() {
        let patch = patch("tokens = \"none\"").unwrap();
        let limits = Limits::task_default().overridden_by(&patch);
        assert_eq!(limits.tokens, None);
        assert_eq!(limits.calls, Some(100));
    }

    #[test]
    fn the_upper_patch_wins_and_keeps_the_rest() {
        let upper = patch("tokens = 1").unwrap();
        let merged = upper.over(patch("tokens = 2\ncalls = \"none\"").unwrap());
        assert_eq!(merged, patch("tokens = 1\ncalls = \"none\"").unwrap());
    }

    #[test]
    fn wrong_tables_say_why() {
        let error = |toml| patch(toml).unwrap_err();
        assert_eq!(
            error("tokns = 1"),
            "`tokns`: unknown limit `tokns`; the known ones are tokens, cost, calls, fuel, memory, timeout, tasks, depth"
        );
        assert!(
            error("tokens = true").ends_with("expected a number or a string"),
            "{}",
            error("tokens = true")
        );
        assert_eq!(
            error("tokens = -1"),
            "`tokens`: `-1` is not a count; write a whole number such as 200000, 200_000 or 200k (k, M, G or T); or none for no limit"
        );
        assert!(error("depth = 5000000000").contains("`5000000000` is too large; the most is 4294967295"));
        assert!(error("cost = nan").contains("`NaN` is not an amount"));
    }

    #[test]
    fn every_key_can_be_set() {
        for key in LimitsPatch::KEYS {
            let mut patch = LimitsPatch::default();
            patch.set(key, "3").unwrap();
            assert_ne!(patch, LimitsPatch::default(), "{key}");
        }
    }
}
