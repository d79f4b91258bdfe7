//! The vendors' reports of their limits: the headers of every answer, and the refusals.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Dialect, Unit, error_body};
use crate::server::{Reply, Request};

/// The state of one limit.
pub(super) struct Meter {
    pub(super) unit: Unit,
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// Until it is full.
    pub(super) reset: Duration,
}

pub(super) fn headers(dialect: Dialect, meters: &[Meter]) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    match dialect {
        Dialect::Anthropic => {
            let now = SystemTime::now();
            let mut write = |name: &str, meter: &Meter| {
                let remaining = match meter.unit {
                    Unit::Requests => meter.remaining,
                    _ => (meter.remaining + 500) / 1_000 * 1_000,
                };
                let fields = [
                    ("limit", meter.limit.to_string()),
                    ("remaining", remaining.to_string()),
                    ("reset", rfc3339(now + meter.reset)),
                ];
                headers.extend(fields.map(|(field, value)| (format!("anthropic-ratelimit-{name}-{field}"), value)));
            };
            for meter in meters {
                write(meter.unit.name(), meter);
            }
            // The narrowest limit of tokens is repeated there.
            let tokens = meters.iter().filter(|meter| meter.unit != Unit::Requests);
            if let Some(narrowest) = tokens.min_by_key(|meter| meter.remaining) {
                write("tokens", narrowest);
            }
        }
        Dialect::OpenAi => {
            for meter in meters {
                let name = meter.unit.name();
                let fields = [
                    ("limit", meter.limit.to_string()),
                    ("remaining", meter.remaining.to_string()),
                    ("reset", go_duration(meter.reset)),
                ];
                headers.extend(fields.map(|(field, value)| (format!("x-ratelimit-{field}-{name}"), value)));
            }
        }
    }
    headers
}

pub(super) fn limited(dialect: Dialect, unit: Unit, request: &Request, after: Option<Duration>) -> Reply {
    let model = request.model();
    let reply = match dialect {
        Dialect::Anthropic => {
            let message = format!(
                "This request would exceed your organization's rate limit of {} per minute.",
                unit.name()
            );
            Reply::raw(429, error_body(dialect, "rate_limit_error", None, &message))
        }
        Dialect::OpenAi => {
            let again = after.map_or(String::new(), |after| {
                format!(" Please try again in {}.", go_duration(after))
            });
            let message = format!(
                "Rate limit reached for {model} in organization org-1 on {} per min.{again}",
                unit.name()
            );
            Reply::raw(
                429,
                error_body(dialect, unit.name(), Some("rate_limit_exceeded"), &message),
            )
        }
    };
    let Some(after) = after else { return reply };
    let millis = after.as_micros().div_ceil(1_000);
    let seconds = millis.div_ceil(1_000).to_string();
    match dialect {
        Dialect::Anthropic => reply.header("retry-after", &seconds),
        Dialect::OpenAi => reply
            .header("retry-after", &seconds)
            .header("retry-after-ms", &millis.to_string()),
    }
}

pub(super) fn too_large(limit: u64, requested: u64) -> Reply {
    let message = format!("Request too large for model on tokens per min (TPM): Limit {limit}, Requested {requested}.");
    Reply::raw(
        429,
        error_body(Dialect::OpenAi, "tokens", Some("rate_limit_exceeded"), &message),
    )
}

pub(super) fn overloaded(dialect: Dialect) -> Reply {
    match dialect {
        Dialect::Anthropic => Reply::raw(529, error_body(dialect, "overloaded_error", None, "Overloaded")),
        Dialect::OpenAi => Reply::raw(
            503,
            error_body(
                dialect,
                "service_unavailable_error",
                Some("server_is_overloaded"),
                "The server is overloaded.",
            ),
        ),
    }
}

/// The second that is not before `time`, as `2026-10-09T07:05:03Z`.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap();
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut left) = (1970, day);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < days {
            break;
        }
        left -= days;
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        left + 1,
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// A duration as Go prints it, to the millisecond above: `12ms`, `1.5s`, `6m0s`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_micros().div_ceil(1_000);
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let fraction = format!(".{:03}", millis % 1_000);
    let seconds = format!(
        "{}{}s",
        millis / 1_000 % 60,
        fraction.trim_end_matches('0').trim_end_matches('.')
    );
    match (millis / 3_600_000, millis / 60_000 % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_vendors_write_them() {
        let at = |millis| rfc3339(UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_695_001), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_798_761_599_000), "2026-12-31T23:59:59Z");
        for (millis, text) in [
            (0, "0s"),
            (12, "12ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (360_000, "6m0s"),
            (3_661_010, "1h1m1.01s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
