//! Converts numbers in both directions: exact integers, and floats in their own shortest form.

use std::fmt::Display;

use serde_json::{Number, Value as Json};

use agenthost_plugin::types::MAX_F32;

use super::words::{expected, quoted};
use super::{Path, ValueError};

/// The largest float below which a whole number cannot have lost digits: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a whole number in the range of `T`. The 64-bit types also accept a decimal string in canonical form.
pub(super) fn integer<T: TryFrom<i128> + Display>(
    json: &Json,
    at: &Path<'_>,
    word: &str,
    min: T,
    max: T,
) -> Result<T, ValueError> {
    let is_long = size_of::<T>() == size_of::<u64>();
    let whole = match json {
        Json::Number(number) => match (number.as_i128(), number.as_f64()) {
            (Some(whole), _) => Some(whole),
            (None, Some(float)) if float.fract() != 0.0 => {
                return Err(at.mismatch(format!("expected {word}, found {number}, which has a fraction")));
            }
            (None, Some(float)) if is_long && float.abs() > MAX_EXACT => {
                return Err(at.mismatch(format!(
                    "expected {word}, found the float {number}, which may have lost digits; write all digits, or a string of them"
                )));
            }
            // Beyond i128, the cast saturates to a value outside of every range.
            (None, Some(float)) => Some(float as i128),
            (None, None) => None,
        },
        Json::String(text) if is_long => match decimal(text) {
            Some(whole) => Some(whole),
            None => {
                return Err(at.mismatch(format!(
                    "expected {word} as a number or a string of digits, found string {}",
                    quoted(text)
                )));
            }
        },
        _ => return Err(expected(word, json, at)),
    };
    whole
        .and_then(|whole| T::try_from(whole).ok())
        .ok_or_else(|| at.mismatch(format!("expected {word} ({min} to {max}), found {json}")))
}

/// Parses `-12`, `0`, `34`: no plus sign, no leading zeros, at most 20 digits.
fn decimal(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_canonical = match digits.as_bytes() {
        [] => false,
        [b'0'] => digits.len() == text.len(),
        [first, ..] => *first != b'0' && digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_digit()),
    };
    is_canonical.then(|| text.parse().ok()).flatten()
}

pub(super) fn float64(json: &Json, at: &Path<'_>, word: &str) -> Result<f64, ValueError> {
    match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
    .ok_or_else(|| expected(word, json, at))
}

pub(super) fn float32(json: &Json, at: &Path<'_>) -> Result<f32, ValueError> {
    let wide = float64(json, at, "f32")?;
    if wide.is_finite() && wide.abs() > MAX_F32 {
        return Err(at.mismatch(format!("expected f32 (-3.4028235e38 to 3.4028235e38), found {json}")));
    }
    // Halfway between two f32s, rounding to even may pick the one that this decimal does not denote, such as
    // `7.038531e-26`.
    let is_halfway = wide.to_bits() << 35 == 1 << 63;
    let narrow = is_halfway.then(|| format!("{wide:e}").parse().ok()).flatten();
    Ok(narrow.unwrap_or(wide as f32))
}

/// Returns the shortest decimal that identifies this `f32`: `0.1`, where widening would give `0.10000000149011612`.
pub(super) fn print_f32(value: f32) -> Json {
    // A decimal of up to 9 digits survives the conversion through an f64 unchanged.
    let wide = format!("{value:e}").parse().unwrap_or(f64::from(value));
    print_f64(wide)
}

pub(super) fn print_f64(value: f64) -> Json {
    match Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None if value.is_nan() => Json::from("NaN"),
        None if value > 0.0 => Json::from("Infinity"),
        None => Json::from("-Infinity"),
    }
}
