//! Compares billed amounts with booked amounts.

use std::time::Duration;

use serde_json::Value;

use super::super::run::{Measured, Program};
use super::{WITH, looked_at, machine, run};
use crate::server::{Dialect, Reply, Request, Server};

/// Two hundred sub-tasks share what one limit allows, at a server that bills all that it may.
pub(super) fn overspend(program: &Program) -> Measured {
    const LIMIT: u64 = 50_000;
    let mut measured = Measured::default();
    // The most that docs/limits.md allows a tokenizer: a token for each byte, 8 for the message and 64 for the request.
    let server = Server::start(|request| {
        let input = request.prompt().len() as u64 + 72;
        Reply::text("fine").usage(input, request.max_tokens().unwrap_or(0))
    });
    let config = format!("[run]\nstrict-tokens = true\n\n{}", server.config());
    let machine = machine(program, "crowd", &config);
    let limit = LIMIT.to_string();
    let flags = [
        &WITH[..],
        &[
            "--tokens", &limit, "--calls", "none", "--fuel", "none", "--tasks", "300",
        ],
    ]
    .concat();
    let (watched, report) = run(&machine, &"g".repeat(200), &flags);
    looked_at(&mut measured, &watched);
    let (input, output) = server.counted();
    let billed = input + output;
    let booked = tokens(&report);
    measured.figure("billed-calls", server.count() as f64);
    measured.figure("overspent", billed.saturating_sub(LIMIT) as f64);
    measured.expect(billed <= LIMIT, || format!("billed {billed} tokens of {LIMIT}"));
    measured.expect(billed > LIMIT / 2, || {
        format!("billed {billed} tokens: it never came near the limit")
    });
    measured.expect(billed == booked, || format!("billed {billed} tokens, booked {booked}"));
    measured.ended = format!("{billed} of {LIMIT} tokens billed");
    measured
}

/// A guest that drops its calls once they are sent, or returns before they are answered, at a server that bills each
/// request when it has arrived, for all that it may have.
pub(super) fn dropped_calls(program: &Program) -> Measured {
    const LIMIT: u64 = 50_000;
    // The guest's prompts are one byte or a few thousand.
    let is_long = |request: &Request| request.prompt().len() > 1;
    // The most that docs/limits.md allows a tokenizer, as above.
    let bill = |request: &Request| request.prompt().len() as u64 + 72 + request.max_tokens().unwrap_or(0);
    let mut measured = Measured::default();
    let mut ended = Vec::new();
    for input in ["d", "r"] {
        let server = Server::start(move |request| match is_long(request) {
            true => Reply::stall(),
            false => Reply::text("fine").usage(73, 1).after(Duration::from_millis(30)),
        });
        let config = format!("[run]\nstrict-tokens = true\n\n{}", server.config());
        let machine = machine(program, "complete-dropped", &config);
        let limit = LIMIT.to_string();
        let flags = ["--tokens", &limit, "--calls", "none", "--fuel", "none"];
        let (watched, report) = run(&machine, input, &flags);
        looked_at(&mut measured, &watched);
        let seen = server.ended();
        let billed: u64 = seen.iter().map(bill).sum();
        let booked = tokens(&report);
        let dropped = seen.iter().filter(|request| is_long(request)).count();
        let code = watched.output.code;
        measured.expect(code == 0, || {
            format!("{input}: exit code {code}: {}", report["outcome"])
        });
        measured.expect(billed <= LIMIT, || {
            format!("{input}: billed {billed} tokens of {LIMIT}")
        });
        measured.expect(booked >= billed, || {
            format!("{input}: billed {billed} tokens, booked {booked}")
        });
        measured.expect(booked <= LIMIT, || {
            format!("{input}: booked {booked} tokens of {LIMIT}")
        });
        measured.expect(billed > LIMIT / 2, || {
            format!("{input}: billed {billed} tokens: it never came near the limit")
        });
        measured.figure("overspent", billed.saturating_sub(LIMIT) as f64);
        measured.figure("unbooked", billed.saturating_sub(booked) as f64);
        measured.figure("dropped", dropped as f64);
        ended.push(format!("{dropped} calls dropped, {billed} of {LIMIT} tokens billed"));
    }
    measured.ended = ended.join("; ");
    measured
}

/// Input and output tokens of a report.
fn tokens(report: &Value) -> u64 {
    let spent = &report["spent"];
    spent["input_tokens"].as_u64().unwrap_or(0) + spent["output_tokens"].as_u64().unwrap_or(0)
}

/// A server that fails every third request, which is then made again: billed is what is booked.
pub(super) fn retries(program: &Program) -> Measured {
    let mut measured = Measured::default();
    let server = Server::start(|request| match request.number % 3 {
        0 => Reply::error(500, "server_error", "not now").header("retry-after-ms", "5"),
        1 => Reply::error(429, "rate_limit_error", "not now").header("retry-after-ms", "5"),
        _ => Reply::text("fine").usage(20, 10),
    });
    let machine = machine(program, "crowd", &server.config_of(Dialect::OpenAi));
    let (watched, report) = run(&machine, "gg", &[&WITH[..], &["--calls", "none"]].concat());
    looked_at(&mut measured, &watched);
    let (input, output) = server.counted();
    let booked = tokens(&report);
    measured.figure("requests", server.count() as f64);
    measured.figure("billed", (input + output) as f64);
    measured.expect(input + output > 0, || "nothing was billed".into());
    measured.expect(input + output == booked, || {
        format!("billed {} tokens, booked {booked}", input + output)
    });
    measured.ended = format!("{} requests, {booked} tokens", server.count());
    measured
}
