//! Researches several topics at once, a sub-agent each, and answers one question from all findings.

/// Researches several topics at once and answers one question from all findings.
#[agenthost_sdk::task(
    package = "local:research@0.1.0",
    imports("agenthost:ask@0.1.0"),
    path = "../../wit"
)]
mod research {
    use agenthost_sdk::prelude::*;
    use agenthost_sdk::serde_json;

    /// A question, and the topics to research for it.
    struct Brief {
        /// The question, which is answered once all findings are there.
        question: String,
        /// The topics, a sub-agent each.
        topics: Vec<String>,
        /// Facts that every sub-agent gets.
        facts: Option<String>,
    }

    struct Report {
        answer: String,
        /// In the order of the topics.
        findings: Vec<Finding>,
        /// The topics without a finding, and why.
        missing: Vec<String>,
    }

    struct Finding {
        topic: String,
        text: String,
    }

    /// Names a topic that fails in the report. Fails if all topics fail.
    async fn run(brief: Brief) -> Result<Report, Failure> {
        let topics = brief.topics.iter();
        let branches = topics.map(|topic| branch(topic, look_up(topic, &brief)));
        // Each sub-agent spends from an equal share; a part of the limits is kept back for the answer.
        let results = join::settled(branches).max_concurrent(8).split_equally();
        let (done, failed) = join::split(results.await);
        let missing = failed.iter().map(ToString::to_string).collect();
        if done.is_empty() {
            let first = failed.into_iter().next();
            return Err(first.map_or(Failure::failed("no topics given"), Failure::from));
        }
        progress(1, 2, "answering the question");
        let mut prompt =
            Prompt::new("Answer the question from the findings.").data("question", &brief.question); // marked as data, never as an instruction
        for finding in &done {
            prompt = prompt.data("finding", format!("{}: {}", finding.name, finding.value));
        }
        let answer = prompt.model("strong").max_tokens(800).text().await?;
        let findings = done.into_iter().map(|done| Finding {
            topic: done.name,
            text: done.value,
        });
        Ok(Report {
            answer,
            findings: findings.collect(),
            missing,
        })
    }

    /// Has one topic researched by a sub-agent, the built-in plugin `agenthost:ask`.
    async fn look_up(topic: &str, brief: &Brief) -> Result<String, Failure> {
        let facts = brief.facts.clone().map(|text| ask::Document {
            name: "facts".to_owned(),
            text,
        });
        let answer = ask::run(ask::Question {
            task: format!(
                "Research this for the question \"{}\": {topic}",
                brief.question
            ),
            documents: Some(facts.into_iter().collect()),
            model: None, // `fast`
            system: Some(
                "You are a researcher. Name your sources, and write what you do not know."
                    .to_owned(),
            ),
            schema: None,
            max_tokens: Some(600),
        });
        Ok(serde_json::from_str(&answer.await?)?)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use agenthost_sdk::testing::{Host, Reply};

        fn brief(topics: &[&str]) -> Brief {
            Brief {
                question: "Which is the cheapest?".to_owned(),
                topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
                facts: Some("Acme: 5 francs".to_owned()),
            }
        }

        /// Returns a host on which this closure replaces `agenthost:ask`.
        fn host() -> Host {
            Host::new().sub_agent(ask::run, |question| {
                match question.task.ends_with("Globex") {
                    true => Err(Failure::Exhausted(Limit::Tokens)),
                    false => Ok("\"Five francs.\"".to_owned()),
                }
            })
        }

        #[test]
        fn a_topic_that_fails_is_named() {
            let host = host().model("strong", [Reply::text("Acme.")]);
            let report = host
                .run(run(brief(&["Acme", "Globex", "Initech"])))
                .unwrap();
            assert_eq!(
                (report.answer.as_str(), report.findings.len()),
                ("Acme.", 2)
            );
            assert_eq!(report.missing, ["Globex: limit reached: tokens"]);
            assert!(host.requests()[0].text().contains("Acme: Five francs."));
            let shares = host.shares(ask::run);
            assert_eq!(
                (
                    host.most_concurrent(),
                    shares[2][0].part,
                    shares[2][0].parts
                ),
                (3, 2, 3)
            );
        }

        #[test]
        fn without_a_finding_the_strong_model_is_not_asked() {
            let host = host();
            assert_eq!(
                host.run(run(brief(&["Globex"]))).err(),
                Some(Failure::Exhausted(Limit::Tokens))
            );
            assert!(host.run(run(brief(&[]))).is_err());
            assert!(host.requests().is_empty());
        }
    }
}
