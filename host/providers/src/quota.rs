//! Parses the rate limit headers of a reply: how much is left, when to retry, and whether to.
//!
//! Two dialects are read from every reply, because gateways in front of one vendor often use the other's. Anthropic's
//! (`anthropic-ratelimit-requests-remaining`) gives the time of a reset in RFC 3339, which is compared with the reply's
//! own `date` if it has one, so that a wrong clock on either side does no harm. `OpenAI`'s
//! (`x-ratelimit-remaining-requests`) gives the wait as a Go duration, and compatible services as a number of seconds or a
//! date. If both describe a limit, Anthropic's is used.
//!
//! A header comes from outside: an invalid or implausible value is ignored.
//!
//! Left out: the reaction to the limits, which is the gate's part.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use serde_json::Value;

use agenthost_core::llm::{Quota, RateLimit};

/// The longest plausible window of a limit; a later reset comes from a wrong clock or a wrong unit.
const FARTHEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The rate limits in `headers`, which arrived at `now`; `None` if there are none.
pub(super) fn quota(headers: &HeaderMap, now: SystemTime) -> Option<Box<Quota>> {
    let now = clock(headers, now);
    let anthropic = |what: &str| {
        let name = |field: &str| format!("anthropic-ratelimit-{what}-{field}");
        let reset = || {
            let at = rfc3339(text(headers, &name("reset"))?)?;
            Some(at.duration_since(now).unwrap_or_default())
        };
        meter(headers, &name("limit"), &name("remaining"), reset)
    };
    let openai = |what: &str| {
        let name = |field: &str| format!("x-ratelimit-{field}-{what}");
        let reset = || moment(text(headers, &name("reset"))?, now);
        meter(headers, &name("limit"), &name("remaining"), reset)
    };
    let input_tokens = anthropic("input-tokens");
    let output_tokens = anthropic("output-tokens");
    let quota = Quota {
        requests: anthropic("requests").or_else(|| openai("requests")),
        // In addition to the other two, it only repeats the one that is closer to exhaustion.
        tokens: if input_tokens.is_none() && output_tokens.is_none() {
            anthropic("tokens").or_else(|| openai("tokens"))
        } else {
            None
        },
        input_tokens,
        output_tokens,
    };
    (quota != Quota::default()).then(|| Box::new(quota))
}

/// The wait before the next request: `retry-after-ms`, or `retry-after` in seconds, as a duration or as a date. A date
/// in the past gives zero, an invalid value `None`. A longer wait than [`FARTHEST`] is shortened to it.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let milliseconds = ["retry-after-ms", "x-ms-retry-after-ms"]
        .iter()
        .find_map(|name| text(headers, name)?.parse::<f64>().ok());
    let milliseconds = milliseconds.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
    let wait = milliseconds.or_else(|| moment(text(headers, "retry-after")?, clock(headers, now)));
    // The sum of a time and a longer wait can overflow.
    wait.map(|wait| wait.min(FARTHEST))
}

/// The wait until the exhausted limits in the headers of a refusal are reset, for services that send no other time.
pub(super) fn reset_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let now = clock(headers, now);
    let is_exhausted = |kind: &str| {
        let remaining = text(headers, &format!("x-ratelimit-remaining{kind}"));
        remaining
            .and_then(|text| text.parse::<f64>().ok())
            .is_none_or(|remaining| remaining < 1.0)
    };
    let resets = ["", "-requests", "-tokens"]
        .iter()
        .filter(|kind| is_exhausted(kind))
        .filter_map(|kind| {
            let reset = text(headers, &format!("x-ratelimit-reset{kind}"))?;
            moment(reset, now)
        });
    resets.filter(|reset| *reset <= FARTHEST).max()
}

/// Parses the time until a moment: a number of seconds, a duration, a date, or the number of seconds or milliseconds
/// since 1970.
fn moment(text: &str, now: SystemTime) -> Option<Duration> {
    /// No wait is that many seconds long, and no clock is that early.
    const EPOCH_SECONDS: f64 = 1e9;
    const EPOCH_MILLISECONDS: f64 = 1e12;
    let until = |at: SystemTime| at.duration_since(now).unwrap_or_default();
    if let Ok(number) = text.parse::<f64>() {
        let since_1970 = match number {
            EPOCH_MILLISECONDS.. => number / 1000.0,
            EPOCH_SECONDS.. => number,
            _ => return Duration::try_from_secs_f64(number).ok(),
        };
        let at = Duration::try_from_secs_f64(since_1970).ok()?;
        return SystemTime::UNIX_EPOCH.checked_add(at).map(until);
    }
    if let Some(wait) = go_duration(text) {
        return Some(wait);
    }
    let at = httpdate::parse_http_date(text).ok().or_else(|| rfc3339(text))?;
    Some(until(at))
}

/// Returns the wait that a text asks for: `Please try again in 1m2.5s`, `Please retry after 26 seconds`.
pub(crate) fn wait_in_words(text: &str) -> Option<Duration> {
    const BEFORE: [&str; 9] = [
        "try again in",
        "try again after",
        "retry in",
        "retry after",
        "retry again in",
        "retry again after",
        "wait",
        "available in",
        "resets in",
    ];
    let text = text.to_lowercase();
    let waits = BEFORE.iter().flat_map(|before| {
        let after = text
            .match_indices(before)
            .filter_map(|(at, _)| text.get(at + before.len()..));
        after.filter_map(spoken)
    });
    waits.filter(|wait| *wait <= FARTHEST).max()
}

/// Parses a duration at the start of a text: `15.2s`, `1m2s`, `1h 2m`, `26 seconds`, `6 minutes and 5 seconds`.
fn spoken(text: &str) -> Option<Duration> {
    let mut sum = None::<Duration>;
    let mut rest = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '~' | ':'));
    loop {
        let filler = ["about ", "approximately ", "at least ", "another ", "and ", ", "];
        rest = filler.iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest);
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let Ok(number) = number.trim_end_matches('.').parse::<f64>() else {
            return sum;
        };
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ms" | "millis" | "millisecond" | "milliseconds" => 1e-3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            _ => return sum,
        };
        let piece = Duration::try_from_secs_f64(number * unit).ok()?;
        sum = Some(sum.unwrap_or_default().checked_add(piece)?);
        rest = after.trim_start();
    }
}

/// Returns the wait in a member of a body, which is a number of `unit` seconds or a duration such as `12s`.
pub(crate) fn wait_of(value: &Value, unit: f64) -> Option<Duration> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.trim().parse() {
            Ok(number) => Some(number),
            Err(_) => return go_duration(text.trim()).filter(|wait| *wait <= FARTHEST),
        },
        _ => None,
    };
    let wait = Duration::try_from_secs_f64(number? * unit).ok()?;
    Some(wait).filter(|wait| *wait <= FARTHEST)
}

/// Returns whether the service sent `x-should-retry: false`, which both vendors' own clients obey.
pub(super) fn no_retry(headers: &HeaderMap) -> bool {
    text(headers, "x-should-retry").is_some_and(|text| text.eq_ignore_ascii_case("false"))
}

/// The server's time when it replied, or the local time if the reply has no date.
fn clock(headers: &HeaderMap, now: SystemTime) -> SystemTime {
    text(headers, "date")
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or(now)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // Not `to_str`, which accepts only ASCII: Go writes microseconds with a Greek letter.
    let value = headers.get(name)?.as_bytes();
    std::str::from_utf8(value).ok().map(str::trim)
}

fn meter(
    headers: &HeaderMap,
    limit: &str,
    remaining: &str,
    reset: impl FnOnce() -> Option<Duration>,
) -> Option<RateLimit> {
    let number = |name: &str| text(headers, name)?.parse::<u64>().ok();
    // A limit of zero would reject every request, including the one that was just answered.
    let limit = number(limit).filter(|limit| *limit > 0)?;
    Some(RateLimit {
        limit,
        remaining: number(remaining)?.min(limit),
        reset: reset().filter(|reset| *reset <= FARTHEST),
    })
}

/// Parses a duration as Go prints it: `1s`, `6m0s`, `12ms`, `1h2m3.5s`, or a plain `0`.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = None::<Duration>;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(
            after
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(after.len()),
        );
        let unit = match unit {
            "ns" => 1e-9,
            // The micro sign and the letter mu.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let piece = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()?;
        sum = Some(sum.unwrap_or_default().checked_add(piece)?);
        rest = after;
    }
    sum
}

/// Parses an RFC 3339 time, such as `2026-10-09T12:00:00Z` or `2026-10-09T14:00:00.5+02:00`. `None` before 1970.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let (time, offset) = time.split_at(time.find(['Z', 'z', '+', '-'])?);
    let mut date = date.split('-');
    let year = digits(date.next()?, 4, 9999)?;
    let month = digits(date.next()?, 2, 12).filter(|month| *month > 0)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let day = digits(date.next()?, 2, length).filter(|day| *day > 0)?;

    let (time, fraction) = time
        .split_once('.')
        .map_or((time, None), |(time, rest)| (time, Some(rest)));
    let nanos = match fraction {
        None => Duration::ZERO,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Duration::try_from_secs_f64(format!("0.{digits}").parse().ok()?).ok()?
        }
        Some(_) => return None,
    };
    let mut time = time.split(':');
    let hour = digits(time.next()?, 2, 23)?;
    let minute = digits(time.next()?, 2, 59)?;
    // 60 is a leap second.
    let second = digits(time.next()?, 2, 60)?;
    if date.next().is_some() || time.next().is_some() {
        return None;
    }

    let east = match offset {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let east = digits(hours, 2, 23)? * 60 + digits(minutes, 2, 59)?;
            if offset.starts_with('-') { -east } else { east }
        }
    };
    // Days since 1970, with years that begin in March so that a leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
            - 719_469;
    let seconds = ((days * 24 + hour) * 60 + minute - east) * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?) + nanos)
}

/// Parses `text` as a number, if it has exactly `length` digits and is at most `most`.
fn digits(text: &str, length: usize, most: i64) -> Option<i64> {
    let number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())??;
    (text.len() == length && number <= most).then_some(number)
}

#[cfg(test)]
mod tests;
