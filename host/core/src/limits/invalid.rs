//! Texts that are not limits.

/// The reason why a text is not a limit.
///
/// ```
/// use agenthost_core::limits::{InvalidLimit, LimitsPatch};
///
/// let mut limits = LimitsPatch::default();
/// let error = limits.set("calls", "many").unwrap_err();
/// assert!(matches!(&error, InvalidLimit::OrNone(inner) if matches!(**inner, InvalidLimit::Count { .. })));
/// assert!(matches!(limits.set("call", "3"), Err(InvalidLimit::UnknownKey { key, .. }) if key == "call"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLimit {
    /// No limit has this key.
    #[error("unknown limit `{key}`; the known ones are {}", known.join(", "))]
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that there are.
        known: &'static [&'static str],
    },
    /// The text is not a whole number, with or without a unit.
    #[error("`{text}` is not a count; write a whole number such as 200000, 200_000 or 200k (k, M, G or T)")]
    Count {
        /// The text.
        text: String,
    },
    /// The number is larger than any of its kind.
    #[error("`{text}` is too large; the most is {most}")]
    TooLarge {
        /// The text.
        text: String,
        /// The largest number.
        most: u32,
    },
    /// The text is not a number of bytes, with or without a unit.
    #[error("`{text}` is not a size; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, such as 64MiB")]
    Bytes {
        /// The text.
        text: String,
    },
    /// The text is not a duration.
    #[error("`{text}` is not a duration; write seconds, or numbers with h, m, s or ms, such as 90s or 1h30m")]
    Duration {
        /// The text.
        text: String,
    },
    /// The duration is zero.
    #[error("`{text}` is not a positive time")]
    NoTime {
        /// The text.
        text: String,
    },
    /// The duration is longer than a year.
    #[error("`{text}` is too long; the most is 8760h")]
    TooLong {
        /// The text.
        text: String,
    },
    /// The text is not a share.
    #[error("`{text}` is not a share; write whole percent from 0% to 90%, such as 25%")]
    Percent {
        /// The text.
        text: String,
    },
    /// The text is not an amount of money.
    #[error("`{text}` is not an amount in US dollars; write a plain number with at most 12 decimals, such as 0.5")]
    Usd {
        /// The text.
        text: String,
    },
    /// The amount of money is larger than any limit.
    #[error("`{text}` is too much; the most is $1000000")]
    TooMuch {
        /// The text.
        text: String,
    },
    /// The text is not a limit of a kind that `none` lifts.
    #[error("{0}; or none for no limit")]
    OrNone(Box<InvalidLimit>),
}

impl From<InvalidLimit> for String {
    fn from(error: InvalidLimit) -> Self {
        error.to_string()
    }
}
