//! Takes the place of the plugin `competitor`, and ends in the way that the company's name asks for.
#![expect(clippy::panic, reason = "what it is for")]

use std::hint::black_box;

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(path = "wit/competitor-fails");

async fn run(input: Topic) -> Result<Report, Failure> {
    match input.company.as_str() {
        "trap" => panic!("as asked"),
        "loop" => loop {
            black_box(0);
        },
        "memory" => {
            let mut held = Vec::new();
            loop {
                held.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "fail" => return Err(Failure::failed("as asked")),
        _ => {}
    }
    let summary = Prompt::new("Look into it.")
        .data("company", &input.company)
        .max_tokens(100)
        .text()
        .await?;
    Ok(Report {
        company: input.company,
        summary,
        findings: vec![],
        confidence: 1.0,
    })
}
