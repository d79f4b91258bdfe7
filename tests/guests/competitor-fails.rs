//! Takes the place of the plugin `competitor`, and ends in the way that the company's name asks for.
#![expect(clippy::panic, reason = "what it is for")]

use std::hint::black_box;

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Looks into one company, question by question: on the web if that is granted, and otherwise in the model's memory.
package demo:competitor@0.2.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  /// One company to look into.
  record topic {
    /// The company's name, with enough detail to identify it: "Acme Robotics, Zurich".
    company: string,
    /// The questions, one model call each. If there are none, one general question is asked.
    questions: list<string>,
  }

  /// A page on the web.
  record source {
    /// The address.
    url: string,
    /// The title, if it is known.
    title: option<string>,
  }

  /// Something about the company that answers a question.
  record finding {
    /// The statement, in one sentence.
    claim: string,
    /// The support for it in the answers, or the reason why it is uncertain.
    support: string,
    /// The pages that support it. Without any, it is from the model's memory.
    sources: list<source>,
  }

  /// The findings about the company.
  record report {
    /// The company as it was given.
    company: string,
    /// The answers in a few sentences, with the open questions.
    summary: string,
    /// The single findings, the most important first.
    findings: list<finding>,
    /// The reliability of the report, from 0 (none) to 1 (full). Unanswered questions lower it.
    confidence: f32,
    /// Whether no page was read, so that all of it is from the model's memory.
    from-memory: bool,
  }

  /// Reports about one company.
  run: async func(input: topic) -> result<report, failure>;
}

world competitor {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

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
        from_memory: true,
    })
}
