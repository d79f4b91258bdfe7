//! Money as whole pico-dollars, so that sums are exact however many calls they add up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::InvalidLimit;
use super::units::decimal;

/// An amount in US dollars, counted in pico-dollars (1e-12 USD): at a price of $0.01 per million tokens, each token
/// still costs 10,000 of them. The maximum is about 18.4 million dollars; sums saturate there.
///
/// ```
/// use agenthost_core::limits::Usd;
///
/// let call: Usd = "0.0123".parse()?;
/// assert_eq!(call.saturating_add(call).to_string(), "$0.0246");
/// assert_eq!(Usd::from_pico(10_000).to_string(), "$0.000001"); // never shown as nothing
/// # Ok::<(), agenthost_core::limits::InvalidLimit>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

/// A million dollars: a written amount above it is treated as a mistake.
const MOST_WRITTEN: u128 = 1_000_000_000_000_000_000;

impl Usd {
    /// Zero dollars.
    pub const ZERO: Self = Self(0);

    /// Creates an amount from pico-dollars.
    pub const fn from_pico(pico: u64) -> Self {
        Self(pico)
    }

    /// The amount in pico-dollars.
    pub const fn pico(self) -> u64 {
        self.0
    }

    /// The amount in dollars, for output. Use [`Usd`] for sums.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are enough for what is shown")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e12
    }

    /// Returns the sum, saturating at the largest amount.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// `$0.0123`: rounded to six decimals, with at least two of them shown. A nonzero amount that would round to zero is
/// shown as `$0.000001`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micro = (self.0 / 1_000_000 + u64::from(self.0 % 1_000_000 >= 500_000)).max(u64::from(self.0 > 0));
        let (whole, fraction) = (micro / 1_000_000, format!("{:06}", micro % 1_000_000));
        write!(f, "${whole}.{:0<2}", fraction.trim_end_matches('0'))
    }
}

impl FromStr for Usd {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let number = text.trim();
        let number = number.strip_prefix('$').unwrap_or(number);
        let pico = decimal(number, 12).ok_or_else(|| InvalidLimit::Usd { text: text.to_owned() })?;
        match u64::try_from(pico) {
            Ok(value) if pico <= MOST_WRITTEN => Ok(Self(value)),
            _ => Err(InvalidLimit::TooMuch { text: text.to_owned() }),
        }
    }
}

/// A JSON number in dollars.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let usd = f64::deserialize(deserializer)?;
        // Negative amounts and NaN become zero, amounts that are too large become the maximum.
        Ok(Self((usd * 1e12).round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        for (text, pico) in [
            ("0", 0),
            ("0.5", 500_000_000_000),
            ("2", 2_000_000_000_000),
            ("$1.20", 1_200_000_000_000),
            ("0.000000000001", 1),
            ("0.1000000000000000", 100_000_000_000),
            ("1_000", 1_000_000_000_000_000),
            ("1000000", 1_000_000_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Usd::from_pico(pico)), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "$",
            "-1",
            "$-1",
            "NaN",
            "inf",
            "1e-3",
            ".5",
            "5.",
            "0.0000000000001",
            "1,50",
            "1 USD",
        ] {
            assert_eq!(
                text.parse::<Usd>().map_err(String::from),
                Err(format!(
                    "`{text}` is not an amount in US dollars; write a plain number with at most 12 decimals, such as 0.5"
                ))
            );
        }
        for text in ["1000000.01", "99999999999999999999"] {
            assert_eq!(
                text.parse::<Usd>().map_err(String::from),
                Err(format!("`{text}` is too much; the most is $1000000"))
            );
        }
    }

    #[test]
    fn amounts_are_shown_for_people() {
        for (pico, text) in [
            (0, "$0.00"),
            (1, "$0.000001"),
            (12_300_000_000, "$0.0123"),
            (1_000_000_000_000, "$1.00"),
            (1_200_000_000_000, "$1.20"),
            (1_234_567_499_999, "$1.234567"),
            (1_234_567_500_000, "$1.234568"),
            (999_999_999_999, "$1.00"),
            (u64::MAX, "$18446744.07371"),
        ] {
            assert_eq!(Usd::from_pico(pico).to_string(), text);
        }
    }

    #[test]
    fn sums_saturate() {
        assert_eq!(Usd::from_pico(2).saturating_add(Usd::from_pico(3)), Usd::from_pico(5));
        assert_eq!(
            Usd::from_pico(u64::MAX).saturating_add(Usd::from_pico(3)).pico(),
            u64::MAX
        );
    }

    #[test]
    fn json_has_dollars() {
        assert_eq!(
            serde_json::to_string(&Usd::from_pico(12_300_000_000)).unwrap(),
            "0.0123"
        );
        assert_eq!(serde_json::to_string(&Usd::ZERO).unwrap(), "0.0");
    }
}
