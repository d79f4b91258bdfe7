use reqwest::header::{HeaderName, HeaderValue};

use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )
    };
    lines.iter().map(pair).collect()
}

fn at(date: &str) -> SystemTime {
    httpdate::parse_http_date(date).unwrap()
}

fn read(lines: &[(&str, &str)]) -> Option<Quota> {
    quota(&headers(lines), at("Fri, 09 Oct 2026 12:00:00 GMT")).map(|quota| *quota)
}

fn meter(limit: u64, remaining: u64, reset: impl Into<Option<f64>>) -> Option<RateLimit> {
    Some(RateLimit {
        limit,
        remaining,
        reset: reset.into().map(Duration::from_secs_f64),
    })
}

const CLAUDE: [(&str, &str); 13] = [
    ("date", "Fri, 09 Oct 2026 12:00:00 GMT"),
    ("anthropic-ratelimit-requests-limit", "4000"),
    ("anthropic-ratelimit-requests-remaining", "3999"),
    ("anthropic-ratelimit-requests-reset", "2026-10-09T12:00:01Z"),
    ("anthropic-ratelimit-input-tokens-limit", "2000000"),
    ("anthropic-ratelimit-input-tokens-remaining", "1996000"),
    ("anthropic-ratelimit-input-tokens-reset", "2026-10-09T12:00:00Z"),
    ("anthropic-ratelimit-output-tokens-limit", "400000"),
    ("anthropic-ratelimit-output-tokens-remaining", "385000"),
    ("anthropic-ratelimit-output-tokens-reset", "2026-10-09T12:00:03Z"),
    ("anthropic-ratelimit-tokens-limit", "2400000"),
    ("anthropic-ratelimit-tokens-remaining", "2381000"),
    ("anthropic-ratelimit-tokens-reset", "2026-10-09T12:00:00Z"),
];

const GPT: [(&str, &str); 6] = [
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "200000"),
    ("x-ratelimit-remaining-requests", "9998"),
    ("x-ratelimit-remaining-tokens", "149984"),
    ("x-ratelimit-reset-requests", "17.28s"),
    ("x-ratelimit-reset-tokens", "6m0s"),
];

#[test]
fn anthropics_headers_are_read() {
    let expected = Quota {
        requests: meter(4000, 3999, 1.0),
        // The header repeats the two below.
        tokens: None,
        input_tokens: meter(2_000_000, 1_996_000, 0.0),
        output_tokens: meter(400_000, 385_000, 3.0),
    };
    assert_eq!(read(&CLAUDE), Some(expected));

    // Without the other two, the tokens are the only token limit.
    let few: Vec<_> = CLAUDE
        .into_iter()
        .filter(|(name, _)| !name.contains("put-tokens"))
        .collect();
    let expected = Quota {
        requests: meter(4000, 3999, 1.0),
        tokens: meter(2_400_000, 2_381_000, 0.0),
        ..Quota::default()
    };
    assert_eq!(read(&few), Some(expected));
}

#[test]
fn openais_headers_are_read() {
    let expected = Quota {
        requests: meter(10_000, 9_998, 17.28),
        tokens: meter(200_000, 149_984, 360.0),
        ..Quota::default()
    };
    assert_eq!(read(&GPT), Some(expected));
}

#[test]
fn a_gateway_that_speaks_both_dialects_is_heard_in_the_finer_one() {
    let both: Vec<_> = CLAUDE.into_iter().chain(GPT).collect();
    assert_eq!(read(&both), read(&CLAUDE));
    let part: Vec<_> = CLAUDE[..4].iter().copied().chain(GPT).collect();
    let expected = Quota {
        requests: meter(4000, 3999, 1.0),
        tokens: meter(200_000, 149_984, 360.0),
        ..Quota::default()
    };
    assert_eq!(read(&part), Some(expected));
}

#[test]
fn a_reset_is_measured_on_the_servers_clock() {
    let reset = |date: Option<&'static str>, reset: &'static str| {
        let mut lines = vec![
            ("anthropic-ratelimit-requests-limit", "60"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", reset),
        ];
        lines.extend(date.map(|date| ("date", date)));
        let reset = read(&lines).unwrap().requests.unwrap().reset;
        reset.map(|reset| reset.as_secs_f64())
    };
    // The server's clock is an hour behind ours, or a day ahead.
    assert_eq!(
        reset(Some("Fri, 09 Oct 2026 11:00:00 GMT"), "2026-10-09T11:00:30Z"),
        Some(30.0)
    );
    assert_eq!(
        reset(Some("Sat, 10 Oct 2026 12:00:00 GMT"), "2026-10-10T12:00:30Z"),
        Some(30.0)
    );
    // Without a valid date, our clock is used.
    for date in [None, Some("yesterday")] {
        assert_eq!(reset(date, "2026-10-09T12:00:30Z"), Some(30.0));
        assert_eq!(reset(date, "2026-10-09T11:00:30Z"), Some(0.0));
    }
    // A reset that is years away is implausible.
    assert_eq!(reset(None, "2036-10-09T12:00:00Z"), None);
    assert_eq!(reset(None, "soon"), None);
}

#[test]
fn a_time_is_read_in_every_form_that_rfc_3339_has() {
    for (text, date) in [
        ("1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("2000-02-29T23:59:59z", "Tue, 29 Feb 2000 23:59:59 GMT"),
        ("2024-02-29t12:00:00Z", "Thu, 29 Feb 2024 12:00:00 GMT"),
        ("2024-12-31T23:59:59Z", "Tue, 31 Dec 2024 23:59:59 GMT"),
        ("2026-03-01 00:00:00Z", "Sun, 01 Mar 2026 00:00:00 GMT"),
        ("2026-10-09T14:00:00+02:00", "Fri, 09 Oct 2026 12:00:00 GMT"),
        ("2026-10-08T22:30:00-13:30", "Fri, 09 Oct 2026 12:00:00 GMT"),
        ("2026-12-31T23:59:60Z", "Fri, 01 Jan 2027 00:00:00 GMT"),
        ("9999-12-31T23:59:59Z", "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        assert_eq!(rfc3339(text), Some(at(date)), "{text}");
    }
    let half = at("Fri, 09 Oct 2026 12:00:00 GMT") + Duration::from_millis(500);
    assert_eq!(rfc3339("2026-10-09T12:00:00.5Z"), Some(half));
    assert_eq!(rfc3339("2026-10-09T14:00:00.500000000000+02:00"), Some(half));
    for wrong in [
        "",
        "T",
        "2026-10-09",
        "12:00:00Z",
        "2026-10-09T12:00:00",
        "2026-10-09T12:00Z",
        "2026-10-09T12:00:00.Z",
        "2026-10-09T12:00:00.-5Z",
        "2026-10-09T12:00:00.5e9Z",
        "2026-13-09T12:00:00Z",
        "2026-00-09T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2100-02-29T12:00:00Z",
        "2026-04-31T12:00:00Z",
        "2026-10-00T12:00:00Z",
        "2026-10-09T24:00:00Z",
        "2026-10-09T12:60:00Z",
        "2026-10-09T12:00:61Z",
        "2026-10-09T12:00:00ZZ",
        "2026-10-09T12:00:00+0200",
        "2026-10-09T12:00:00+02:60",
        "2026-10-09T12:00:00:00Z",
        "2026-10-09-01T12:00:00Z",
        "26-10-09T12:00:00Z",
        "+026-10-09T12:00:00Z",
        "99999999999999999999-10-09T12:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+01:00",
        "2026-10-09T12:00:00é",
        "1760011200",
    ] {
        assert_eq!(rfc3339(wrong), None, "{wrong}");
    }
}

#[test]
fn gos_durations_are_read() {
    let (second, milli, micro) = (1_000_000_000, 1_000_000, 1_000);
    for (text, nanos) in [
        ("1s", second),
        ("6m0s", 360 * second),
        ("12ms", 12 * milli),
        ("1h2m3.5s", 3_723 * second + 500 * milli),
        ("120us", 120 * micro),
        ("120\u{b5}s", 120 * micro),
        ("120\u{3bc}s", 120 * micro),
        ("1.5ms", 1_500 * micro),
        ("7ns", 7),
        ("23h59m59.999s", 86_399 * second + 999 * milli),
        ("0s", 0),
        ("0", 0),
        (".5s", 500 * milli),
    ] {
        assert_eq!(go_duration(text), Some(Duration::from_nanos(nanos)), "{text}");
    }
    for wrong in [
        "", "1", "s", "1 s", "-1s", "+1s", "1d", "1sec", "1s2", "1.2.3s", ".s", "1e9s", "inf", "NaNs", "1S",
    ] {
        assert_eq!(go_duration(wrong), None, "{wrong}");
    }
    assert_eq!(go_duration(&format!("{}h", "9".repeat(400))), None);
    assert_eq!(go_duration("18446744073709551615s"), None);
    assert_eq!(go_duration("18000000000000000000s18000000000000000000s"), None);
}

#[test]
fn what_cannot_be_meant_is_as_if_it_were_not_there() {
    let requests = |limit: &'static str, remaining: &'static str, reset: &'static str| {
        let quota = read(&[
            ("x-ratelimit-limit-requests", limit),
            ("x-ratelimit-remaining-requests", remaining),
            ("x-ratelimit-reset-requests", reset),
        ]);
        quota.and_then(|quota| quota.requests)
    };
    assert_eq!(requests(" 60 ", "59", "1s"), meter(60, 59, 1.0));
    assert_eq!(requests("60", "61", "1s"), meter(60, 60, 1.0));
    assert_eq!(requests("60", "59", "tomorrow"), meter(60, 59, None));
    assert_eq!(requests("60", "59", "9000h"), meter(60, 59, None));
    assert_eq!(
        requests("18446744073709551615", "18446744073709551615", "0s"),
        meter(u64::MAX, u64::MAX, 0.0)
    );
    for (limit, remaining) in [
        ("0", "0"),
        ("-1", "-1"),
        ("60", "-1"),
        ("60", ""),
        ("", "59"),
        ("60.0", "59"),
        ("unlimited", "59"),
        ("18446744073709551616", "59"),
        ("60, 60", "59"),
        ("6\u{660}", "59"),
    ] {
        assert_eq!(requests(limit, remaining, "1s"), None, "{limit} {remaining}");
    }
}

#[test]
fn a_missing_half_leaves_its_meter_out_and_the_others_in() {
    for missing in 1..3 {
        let mut lines = CLAUDE.to_vec();
        lines.remove(missing);
        let quota = read(&lines).unwrap();
        assert_eq!(quota.requests, None);
        assert!(quota.input_tokens.is_some() && quota.output_tokens.is_some());
    }
    let mut lines = CLAUDE.to_vec();
    lines.remove(3);
    assert_eq!(read(&lines).unwrap().requests, meter(4000, 3999, None));

    assert_eq!(read(&[]), None);
    assert_eq!(read(&[("retry-after", "1"), ("x-ratelimit-limit", "60")]), None);
    // Bytes that are not valid text.
    let mut odd = headers(&CLAUDE[..4]);
    let name = HeaderName::from_static("anthropic-ratelimit-requests-limit");
    odd.insert(name, HeaderValue::from_bytes(b"60\xff").unwrap());
    assert_eq!(quota(&odd, SystemTime::now()), None);
}

#[test]
fn retry_after_is_read_in_all_its_forms() {
    let now = at("Mon, 23 Nov 2026 10:00:00 GMT");
    let read = |lines: &[(&str, &str)]| retry_after(&headers(lines), now);
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!(read(&[("retry-after", "7")]), ms(7_000));
    // Later additions of times cannot overflow.
    for far in [("retry-after-ms", "1e22"), ("retry-after", "10000000000000000000s")] {
        assert_eq!(read(&[far]), Some(FARTHEST));
    }
    assert_eq!(read(&[("retry-after", "0.5")]), ms(500));
    assert_eq!(read(&[("retry-after-ms", "84"), ("retry-after", "1")]), ms(84));
    assert_eq!(read(&[("retry-after-ms", "84.5")]), Some(Duration::from_micros(84_500)));
    assert_eq!(read(&[("retry-after-ms", "soon"), ("retry-after", "1")]), ms(1_000));
    assert_eq!(read(&[("retry-after-ms", "-5"), ("retry-after", "1")]), ms(1_000));
    let date = ("retry-after", "Mon, 23 Nov 2026 10:01:30 GMT");
    assert_eq!(read(&[date]), ms(90_000));
    assert_eq!(read(&[date, ("date", "Mon, 23 Nov 2026 10:01:00 GMT")]), ms(30_000));
    assert_eq!(read(&[("retry-after", "Mon, 23 Nov 2026 09:00:00 GMT")]), ms(0));
    for wrong in ["-1", "soon", "NaN", "inf", "1e300", ""] {
        assert_eq!(read(&[("retry-after", wrong)]), None, "{wrong}");
    }
    assert_eq!(read(&[]), None);
}

#[test]
fn only_a_plain_no_forbids_another_try() {
    for (said, no) in [
        ("false", true),
        (" False ", true),
        ("true", false),
        ("", false),
        ("0", false),
    ] {
        assert_eq!(no_retry(&headers(&[("x-should-retry", said)])), no, "{said}");
    }
    assert!(!no_retry(&HeaderMap::new()));
}

#[test]
fn a_reset_may_be_a_number_a_duration_or_a_date() {
    let now = at("Fri, 09 Oct 2026 12:00:00 GMT");
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for (reset, expected) in [
        ("12", 12.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("12ms", 0.012),
        ("6m0s", 360.0),
        ("2026-10-09T12:00:30Z", 30.0),
        ("Fri, 09 Oct 2026 12:01:00 GMT", 60.0),
        (&(seconds + 20).to_string(), 20.0),
        (&format!("{}500", seconds + 20), 20.5),
        // Already over.
        (&(seconds - 20).to_string(), 0.0),
    ] {
        let lines = [
            ("x-ratelimit-limit-requests", "30"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", reset),
        ];
        let reset_in = read(&lines).unwrap().requests.unwrap().reset;
        assert_eq!(reset_in, Some(Duration::from_secs_f64(expected)), "{reset}");
        assert_eq!(reset_after(&headers(&lines), now), reset_in, "{reset}");
    }
    for reset in ["soon", "-1", "NaN", "1e30", ""] {
        let lines = [
            ("x-ratelimit-limit-requests", "30"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", reset),
        ];
        assert_eq!(read(&lines).unwrap().requests.unwrap().reset, None, "{reset}");
        assert_eq!(reset_after(&headers(&lines), now), None, "{reset}");
    }
}

#[test]
fn a_refusal_without_a_time_waits_for_the_exhausted_limit() {
    let now = at("Fri, 09 Oct 2026 12:00:00 GMT");
    for (lines, expected) in [
        (&[("x-ratelimit-reset", "7")][..], Some(7)),
        (
            &[("x-ratelimit-reset-tokens", "7"), ("x-ratelimit-reset-requests", "3s")],
            Some(7),
        ),
        (
            &[
                ("x-ratelimit-reset-tokens", "60"),
                ("x-ratelimit-remaining-tokens", "5000"),
                ("x-ratelimit-reset-requests", "3"),
                ("x-ratelimit-remaining-requests", "0"),
            ],
            Some(3),
        ),
        (&[("x-ratelimit-remaining-tokens", "0")], None),
        (&[], None),
    ] {
        assert_eq!(
            reset_after(&headers(lines), now),
            expected.map(Duration::from_secs),
            "{lines:?}"
        );
    }
}

#[test]
fn a_wait_is_found_in_words() {
    for (text, seconds) in [
        ("Please try again in 15.2s.", Some(15.2)),
        ("Please try again in 84ms. Visit https://example.com", Some(0.084)),
        ("try again in 1m2s", Some(62.0)),
        ("Try again in 1h2m3.5s", Some(3723.5)),
        ("Please try again in 6m0s.", Some(360.0)),
        ("Please retry after 26 seconds.", Some(26.0)),
        ("Please try again after 1 second", Some(1.0)),
        ("Quota exceeded. Please retry in 12.4s.", Some(12.4)),
        ("please wait about 2 minutes and 30 seconds", Some(150.0)),
        ("Limit resets in: 45 sec", Some(45.0)),
        ("try again in 5s, or retry in 8s", Some(8.0)),
        ("try again later", None),
        ("please wait a moment", None),
        ("try again in 5 fortnights", None),
        ("try again in 900000000 days", None),
        ("wait for 3 of them", None),
    ] {
        assert_eq!(wait_in_words(text), seconds.map(Duration::from_secs_f64), "{text}");
    }
}
