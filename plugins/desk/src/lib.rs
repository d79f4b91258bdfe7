//! Answers a question. A model decides which sub-agents are asked, and with which inputs.
//!
//! Each sub-agent is a typed task of another plugin, offered to the model as a tool. The imports of the world are all that
//! the model can start, and the limits of the task bound how often. Left out: remembering earlier questions.

use std::cell::RefCell;
use std::rc::Rc;

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

/// The most turns of the model, unless the input sets another number.
const TURNS: u32 = 6;
/// The output tokens of one turn.
const TOKENS: u32 = 2000;

const RULES: &str = "You answer questions for a business. Ask the tools for whatever you need, several at once if they \
                     do not depend on each other, and never the same twice. Then answer from their results alone. Say \
                     what is missing if a tool failed, and what is uncertain.";

/// The sub-agents that the model asked.
#[derive(Clone, Default)]
struct Inquiries(Rc<RefCell<Vec<Inquiry>>>);

impl Inquiries {
    fn note(&self, sub_agent: &str, subject: impl Into<String>) {
        let (sub_agent, subject) = (sub_agent.to_owned(), subject.into());
        progress(self.0.borrow().len() as u32, None, &format!("{sub_agent}: {subject}"));
        self.0.borrow_mut().push(Inquiry { sub_agent, subject });
    }
}

async fn run(question: Question) -> Result<Answer, Failure> {
    let inquiries = Inquiries::default();
    let (one, several, writer) = (inquiries.clone(), inquiries.clone(), inquiries.clone());
    let reply = Prompt::new("Answer the question.")
        .data("question", &question.question)
        .system(RULES)
        .model("strong")
        .max_tokens(TOKENS)
        .sub_agent(move |topic: competitor::Topic| {
            one.note("competitor", &topic.company);
            competitor::run(topic)
        })
        .sub_agent(move |market: market_scan::Market| {
            several.note("market-scan", market.companies.join(", "));
            market_scan::run(market)
        })
        .sub_agent(move |order: draft::Order| {
            let brief = match &order {
                draft::Order::Write(brief) => brief,
                draft::Order::Revise(revision) => &revision.document.brief,
            };
            writer.note("draft", &brief.subject);
            draft::run(order)
        })
        .run(question.turns.unwrap_or(TURNS))
        .await?;
    Ok(Answer {
        answer: reply.text(),
        inquiries: inquiries.0.take(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply, sleep};

    fn question(turns: Option<u32>) -> Question {
        Question {
            question: "Acme or Globex?".to_owned(),
            turns,
        }
    }

    fn company(name: &str) -> agenthost_sdk::serde_json::Value {
        json!({"company": name, "questions": ["What does it cost?"]})
    }

    /// A host whose companies are looked into in a second each, except one.
    fn host(replies: impl IntoIterator<Item = Reply>) -> Host {
        let host = Host::new().model("strong", replies);
        host.sub_agent_async(competitor::run, async |topic| {
            sleep(Duration::from_secs(1)).await;
            match topic.company.as_str() {
                "Globex" => Err(Failure::Exhausted(Limit::Tokens)),
                _ => Ok(competitor::Report {
                    company: topic.company,
                    summary: "It costs 5 EUR.".to_owned(),
                    findings: vec![],
                    confidence: 1.0,
                    from_memory: true,
                }),
            }
        })
    }

    #[test]
    fn the_model_starts_several_sub_agents_at_once_and_reads_their_results() {
        let calls = Reply::tool_call("competitor", company("Acme")).with_tool_call("competitor", company("Globex"));
        let host = host([calls, Reply::text("Acme.")]);
        let answer = host.run(run(question(None))).unwrap();
        assert_eq!(answer.answer, "Acme.");
        let asked: Vec<_> = answer
            .inquiries
            .iter()
            .map(|inquiry| inquiry.subject.as_str())
            .collect();
        assert_eq!(
            (asked, host.elapsed()),
            (vec!["Acme", "Globex"], Duration::from_secs(1))
        );
        let results = host.requests()[1].tool_results();
        assert!(results[0].content.contains("It costs 5 EUR."), "{results:?}");
        assert!(
            results[1].is_error && results[1].content.contains("exhausted"),
            "{results:?}"
        );
        assert_eq!(host.requests()[0].tools(), ["competitor", "market-scan", "draft"]);
    }

    #[test]
    fn the_last_turn_answers_without_tools() {
        let host = host([Reply::tool_call("competitor", company("Acme")), Reply::text("Perhaps.")]);
        assert_eq!(host.run(run(question(Some(2)))).unwrap().answer, "Perhaps.");
        let last = host.requests().pop().unwrap();
        assert!(
            last.options.contains(&("tool-choice".to_owned(), "none".to_owned())),
            "{last:?}"
        );
    }

    #[test]
    fn a_call_with_wrong_arguments_starts_nothing() {
        let host = host([
            Reply::tool_call("competitor", json!({"firm": "Acme"})),
            Reply::text("I cannot say."),
        ]);
        let answer = host.run(run(question(None))).unwrap();
        assert!(answer.inquiries.is_empty());
        assert!(host.requests()[1].tool_results()[0].is_error);
    }
}
