//! Parsers for counts, sizes and durations, on the command line and in files, and their forms for people.
//!
//! All three parsers accept decimals if the result is whole, and reject a value that would have to be rounded, so that a
//! limit is exactly the written value. They accept every form that is shown. The functions have the signature of clap's
//! value parsers.

use std::time::Duration;

use super::InvalidLimit;

/// The longest duration: one year. A longer deadline is meaningless, and the system's instants may overflow.
const MAX_SECONDS: u128 = 365 * 24 * 3_600;

/// Parses a count: `200000`, `200_000`, `200k`, `1.5M`; k, M, G and T are powers of 1,000.
///
/// ```
/// use agenthost_core::limits::units::parse_count;
///
/// assert_eq!(parse_count("1.5M")?, 1_500_000);
/// assert!(parse_count("1.5").is_err(), "nothing is rounded");
/// # Ok::<(), agenthost_core::limits::InvalidLimit>(())
/// ```
pub fn parse_count(text: &str) -> Result<u64, InvalidLimit> {
    let (number, unit) = split_unit(text.trim());
    let factor = match unit {
        "" => Some(1),
        "k" | "K" => Some(1_000),
        "M" => Some(1_000_000),
        "G" => Some(1_000_000_000),
        "T" => Some(1_000_000_000_000),
        _ => None,
    };
    let count = factor.and_then(|factor| whole(number, factor));
    count.ok_or_else(|| InvalidLimit::Count { text: text.to_owned() })
}

/// Parses a size in bytes: `65536`, `64KiB`, `1.5GiB`, `500MB`. KiB, MiB and GiB are powers of 1,024, KB, MB and GB of
/// 1,000. Case does not matter.
///
/// ```
/// use agenthost_core::limits::units::parse_bytes;
///
/// assert_eq!(parse_bytes("64MiB")?, 64 << 20);
/// # Ok::<(), agenthost_core::limits::InvalidLimit>(())
/// ```
pub fn parse_bytes(text: &str) -> Result<u64, InvalidLimit> {
    let (number, unit) = split_unit(text.trim());
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" | "byte" | "bytes" => Some(1),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let bytes = factor.and_then(|factor| whole(number, factor));
    bytes.ok_or_else(|| InvalidLimit::Bytes { text: text.to_owned() })
}

/// Parses a duration: `90` (seconds), `90s`, `5m`, `1h30m`, `250ms`. The largest unit comes first. Zero and more than a
/// year are errors.
///
/// ```
/// use std::time::Duration;
/// use agenthost_core::limits::units::parse_duration;
///
/// assert_eq!(parse_duration("1h30m")?, Duration::from_secs(5_400));
/// # Ok::<(), agenthost_core::limits::InvalidLimit>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, InvalidLimit> {
    let own = || text.to_owned();
    let nanos = nanos(text.trim()).ok_or_else(|| InvalidLimit::Duration { text: own() })?;
    if nanos == 0 {
        return Err(InvalidLimit::NoTime { text: own() });
    }
    match u64::try_from(nanos) {
        Ok(nanos) if u128::from(nanos) <= MAX_SECONDS * NANOS => Ok(Duration::from_nanos(nanos)),
        _ => Err(InvalidLimit::TooLong { text: own() }),
    }
}

/// Formats a count for people: `12,345`.
#[doc(hidden)]
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Formats an amount of fuel for people without rounding it: `20 G`, `1.25 M`, `12,345`.
#[doc(hidden)]
pub fn show_fuel(fuel: u64) -> String {
    for (unit, name) in [(1_000_000_000_000_u64, "T"), (1_000_000_000, "G"), (1_000_000, "M")] {
        let hundredth = unit / 100;
        if fuel >= unit && fuel.is_multiple_of(hundredth) {
            let (whole, part) = (fuel / unit, fuel % unit / hundredth);
            let part = format!(".{part:02}");
            let part = part.trim_end_matches('0').trim_end_matches('.');
            return format!("{}{part} {name}", show_count(whole));
        }
    }
    show_count(fuel)
}

/// Rounds a measured amount to three digits, for [`show_fuel`].
#[doc(hidden)]
pub fn rounded(amount: u64) -> u64 {
    let unit = 10_u64.pow(amount.max(1).ilog10().saturating_sub(2));
    amount.saturating_add(unit / 2) / unit * unit
}

/// Formats a size for people without rounding it: `64 MiB`, `1.5 GiB`, `12,345 bytes`.
#[doc(hidden)]
pub fn show_exact_bytes(bytes: u64) -> String {
    let units = [1_u64 << 30, 1 << 20, 1 << 10];
    let largest = units.into_iter().find(|unit| bytes >= *unit);
    match largest.is_none_or(|unit| (u128::from(bytes) * 10).is_multiple_of(u128::from(unit))) {
        true => show_bytes(bytes),
        false => format!("{} bytes", show_count(bytes)),
    }
}

/// Formats a duration for people without rounding it: `5 min`, `1 h 30 min`, `1.5 s`, `250 ms`.
#[doc(hidden)]
pub fn show_time(time: Duration) -> String {
    let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
    let fraction = |number: u64, nanos: u32, places: usize| {
        let part = format!(".{nanos:0places$}");
        format!("{number}{}", part.trim_end_matches('0').trim_end_matches('.'))
    };
    let mut parts = Vec::new();
    for (size, name) in [(3_600, "h"), (60, "min")] {
        let number = if name == "h" {
            seconds / size
        } else {
            seconds % 3_600 / size
        };
        if number > 0 {
            parts.push(format!("{number} {name}"));
        }
    }
    match (seconds % 60, nanos) {
        (0, 0) => {}
        (0, nanos) if seconds == 0 => {
            let millis = fraction((nanos / 1_000_000).into(), nanos % 1_000_000, 6);
            parts.push(format!("{millis} ms"));
        }
        (rest, nanos) => parts.push(format!("{} s", fraction(rest, nanos, 9))),
    }
    match parts.is_empty() {
        true => "0 s".to_owned(),
        false => parts.join(" "),
    }
}

/// Formats a size for people: `64 MiB`, `1.5 GiB`, `100 bytes`.
#[doc(hidden)]
pub fn show_bytes(bytes: u64) -> String {
    for (unit, name) in [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            };
        }
    }
    format!("{bytes} bytes")
}

const NANOS: u128 = 1_000_000_000;

fn nanos(text: &str) -> Option<u128> {
    if let Some(nanos) = decimal(text, 9) {
        return Some(nanos);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = 0_u128;
    let mut previous = u128::MAX;
    while !rest.is_empty() {
        let (number, tail) = split_unit(rest);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(end)?;
        let scale = match unit {
            "h" => 3_600 * NANOS,
            "m" | "min" => 60 * NANOS,
            "s" => NANOS,
            "ms" => NANOS / 1_000,
            _ => return None,
        };
        if scale >= previous {
            return None;
        }
        previous = scale;
        let exact = decimal(number, 9)?.checked_mul(scale)?;
        if exact % NANOS != 0 {
            return None;
        }
        total = total.checked_add(exact / NANOS)?;
        rest = next.trim_start();
    }
    Some(total)
}

/// Returns `number` times `factor` if the product is whole and fits.
fn whole(number: &str, factor: u128) -> Option<u64> {
    const ONE: u128 = 1_000_000_000_000;
    let exact = decimal(&without_commas(number)?, 12)?.checked_mul(factor)?;
    if exact % ONE != 0 {
        return None;
    }
    u64::try_from(exact / ONE).ok()
}

/// Removes commas between groups of three digits; `None` for any other comma.
fn without_commas(number: &str) -> Option<String> {
    let (whole, fraction) = number.split_at_checked(number.find('.').unwrap_or(number.len()))?;
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let commas = whole.contains(',');
    let are_right = (!commas || (1..=3).contains(&first.len())) && groups.all(|group| group.len() == 3);
    (are_right && !fraction.contains(',')).then(|| format!("{}{fraction}", whole.replace(',', "")))
}

fn split_unit(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(at).unwrap_or((text, ""));
    (number.trim_end(), unit)
}

/// Parses a plain decimal number exactly, as a multiple of ten to the power of minus `places`. It may contain
/// underscores between digits, but no sign and no exponent.
pub(super) fn decimal(text: &str, places: usize) -> Option<u128> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (digits(whole)?, digits(fraction)?),
        None => (digits(text)?, String::new()),
    };
    let kept = fraction.get(..places).unwrap_or(&fraction);
    if fraction.chars().skip(places).any(|digit| digit != '0') {
        return None;
    }
    format!("{whole}{kept:0<places$}").parse().ok()
}

fn digits(text: &str) -> Option<String> {
    if text.is_empty() || text.starts_with('_') || text.ends_with('_') {
        return None;
    }
    let digits = text.replace('_', "");
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (text, value) in [
            ("0", 0),
            ("200000", 200_000),
            ("200_000", 200_000),
            ("200k", 200_000),
            ("200K", 200_000),
            ("200 k", 200_000),
            ("1.5M", 1_500_000),
            ("20G", 20_000_000_000),
            ("2T", 2_000_000_000_000),
            (" 7 ", 7),
            ("5.0", 5),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_count(text), Ok(value), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "+1",
            "1.5",
            "1.0001k",
            "_1",
            "1_",
            "1e3",
            "1m",
            "0x10",
            "18446744073709551616",
            "99999999999T",
            "१",
        ] {
            assert_eq!(
                parse_count(text).map_err(String::from),
                Err(format!(
                    "`{text}` is not a count; write a whole number such as 200000, 200_000 or 200k (k, M, G or T)"
                ))
            );
        }
    }

    #[test]
    fn what_is_shown_is_exact_and_can_be_written() {
        for (fuel, shown) in [
            (0, "0"),
            (12_345, "12,345"),
            (1_000_000, "1 M"),
            (1_250_000, "1.25 M"),
            (1_234_567, "1,234,567"),
            (20_000_000_000, "20 G"),
            (1_500_000_000_000, "1.5 T"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(show_fuel(fuel), shown);
            assert_eq!(parse_count(shown), Ok(fuel), "{shown}");
        }
        for (bytes, shown) in [
            (0, "0 bytes"),
            (100, "100 bytes"),
            (12_345, "12,345 bytes"),
            (64 << 20, "64 MiB"),
            (3 << 29, "1.5 GiB"),
            ((64 << 20) + 1, "67,108,865 bytes"),
        ] {
            assert_eq!(show_exact_bytes(bytes), shown);
            assert_eq!(parse_bytes(shown), Ok(bytes), "{shown}");
        }
        for (millis, shown) in [
            (300_000, "5 min"),
            (90_000, "1 min 30 s"),
            (7_000, "7 s"),
            (1_500, "1.5 s"),
            (250, "250 ms"),
            (5_400_000, "1 h 30 min"),
            (3_605_007, "1 h 5.007 s"),
            (31_536_000_000, "8760 h"),
        ] {
            let time = Duration::from_millis(millis);
            assert_eq!(show_time(time), shown);
            assert_eq!(parse_duration(shown), Ok(time), "{shown}");
        }
        assert_eq!(show_time(Duration::from_nanos(1_234_567)), "1.234567 ms");
        assert_eq!(show_time(Duration::ZERO), "0 s");
        assert_eq!([999, 1_234_567, 12_345, 0].map(rounded), [999, 1_230_000, 12_300, 0]);
        assert_eq!(rounded(u64::MAX), 18_400_000_000_000_000_000);
        for text in ["1,2", "12,34", ",123", "1,234,5", "1234,567", "1.000,000"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, value) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64MiB", 67_108_864),
            ("64 mib", 67_108_864),
            ("1.5GiB", 1_610_612_736),
            ("2KB", 2_000),
            ("500MB", 500_000_000),
            ("1GB", 1_000_000_000),
            ("12B", 12),
        ] {
            assert_eq!(parse_bytes(text), Ok(value), "{text}");
        }
        for text in ["", "64M", "64Mi", "-1MiB", "0.3KiB", "20000000000GiB", "MiB"] {
            assert_eq!(
                parse_bytes(text).map_err(String::from),
                Err(format!(
                    "`{text}` is not a size; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, such as 64MiB"
                ))
            );
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("90", 90_000),
            ("0.5", 500),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m 5s 7ms", 5_405_007),
            ("250ms", 250),
            ("1.5h", 5_400_000),
            ("8760h", 31_536_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5 minutes", "1m1h", "1m1m", "-5s", "h", "1h30", "5d", "1e3s", "s5"] {
            assert_eq!(
                parse_duration(text).map_err(String::from),
                Err(format!(
                    "`{text}` is not a duration; write seconds, or numbers with h, m, s or ms, such as 90s or 1h30m"
                ))
            );
        }
        assert_eq!(
            parse_duration("0s").map_err(String::from),
            Err("`0s` is not a positive time".to_owned())
        );
        assert_eq!(
            parse_duration("8761h").map_err(String::from),
            Err("`8761h` is too long; the most is 8760h".to_owned())
        );
        assert_eq!(
            parse_duration("9999999999h").map_err(String::from),
            Err("`9999999999h` is too long; the most is 8760h".to_owned())
        );
    }
}
