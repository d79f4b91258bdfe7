//! Drafts a text, has it checked by several validators at once, and revises it until they find nothing more.

/// Drafts a text, has it checked by several validators at once, and revises it until they find nothing more.
#[agenthost_sdk::task(package = "local:validate@0.1.0")]
mod validate {
    use std::collections::BTreeMap;

    use agenthost_sdk::prelude::*;

    /// A text to write, and its validators.
    struct Brief {
        task: String,
        /// The facts that the text may use.
        facts: String,
        validators: Vec<Validator>,
        /// The most drafts, up to 5; 2 if it is missing.
        rounds: Option<u8>,
    }

    struct Validator {
        name: String,
        instruction: String,
    }

    struct Text {
        /// The last one.
        draft: String,
        rounds: u8,
        /// `true` if every validator checked the last draft and found nothing.
        passed: bool,
        findings: Vec<Finding>,
        /// The validators that failed, and why.
        unchecked: Vec<String>,
    }

    struct Finding {
        text: String,
        /// The validators that have it.
        by: Vec<String>,
    }

    /// The reply of a validator.
    #[derive(Deserialize, JsonSchema)]
    struct Verdict {
        /// The faults, a sentence each; empty if there are none.
        faults: Vec<String>,
    }

    /// Fails if a draft fails. A validator that fails does not count as passed.
    async fn run(brief: Brief) -> Result<Text, Failure> {
        let most = brief.rounds.unwrap_or(2).clamp(1, 5);
        let mut text = check(&brief, draft(&brief, None).await?, 1).await;
        while !text.findings.is_empty() && text.rounds < most {
            progress(text.rounds.into(), u32::from(most), "revising");
            let revised = draft(&brief, Some(&text)).await?;
            text = check(&brief, revised, text.rounds + 1).await;
        }
        Ok(text)
    }

    async fn draft(brief: &Brief, last: Option<&Text>) -> Result<String, Failure> {
        let mut prompt = Prompt::new(&brief.task).data("facts", &brief.facts);
        if let Some(last) = last {
            prompt = prompt.data("draft", &last.draft);
            for finding in &last.findings {
                prompt = prompt.data("fault", &finding.text);
            }
        }
        prompt = prompt.system("Use only the facts. Correct the faults of a draft.");
        Ok(prompt.model("strong").max_tokens(1_000).text().await?)
    }

    /// Asks all validators at once. Equal findings are one.
    async fn check(brief: &Brief, draft: String, rounds: u8) -> Text {
        let checks = brief.validators.iter().map(|validator| {
            let prompt = Prompt::new(format!("Check only this: {}", validator.instruction))
                .data("facts", &brief.facts)
                .data("draft", &draft);
            branch(&validator.name, prompt.max_tokens(400).json::<Verdict>())
        });
        let (done, failed) = join::split(join::settled(checks).await);
        let mut found = BTreeMap::<String, Vec<String>>::new();
        for branch in done {
            for fault in branch.value.faults {
                found.entry(fault).or_default().push(branch.name.clone());
            }
        }
        let finding = |(text, by)| Finding { text, by };
        Text {
            draft,
            rounds,
            passed: found.is_empty() && failed.is_empty(),
            findings: found.into_iter().map(finding).collect(),
            unchecked: failed.iter().map(ToString::to_string).collect(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use agenthost_sdk::serde_json::json;
        use agenthost_sdk::testing::{Host, Reply};

        fn brief(rounds: Option<u8>) -> Brief {
            let validator = |name: &str| Validator {
                name: name.to_owned(),
                instruction: format!("its {name}"),
            };
            Brief {
                task: "Write a notice.".to_owned(),
                facts: "It is Saturday.".to_owned(),
                validators: ["facts", "tone"].map(validator).into(),
                rounds,
            }
        }

        fn faults(faults: &[&str]) -> Reply {
            Reply::json(json!({ "faults": faults }))
        }

        #[test]
        fn a_draft_is_revised_until_nothing_is_found() {
            let host = Host::new()
                .model("strong", ["First.", "Second."].map(Reply::text))
                .model(
                    "fast",
                    [
                        faults(&["Too long."]),
                        faults(&["Too long."]),
                        faults(&[]),
                        faults(&[]),
                    ],
                );
            let text = host.run(run(brief(None))).unwrap();
            assert_eq!(
                (text.draft.as_str(), text.rounds, text.passed),
                ("Second.", 2, true)
            );
            let requests = host.requests();
            assert_eq!((requests.len(), host.most_concurrent()), (6, 2));
            let revision = requests[3].text();
            assert!(revision.contains("<draft>\nFirst.\n</draft>"), "{revision}");
            assert_eq!(revision.matches("<fault>").count(), 1, "{revision}");
        }

        #[test]
        fn a_validator_that_fails_is_not_a_pass() {
            let host = Host::new().model("strong", [Reply::text("First.")]).model(
                "fast",
                [faults(&[]), Reply::error(llm::Error::ContextOverflow)],
            );
            let text = host.run(run(brief(None))).unwrap();
            assert_eq!(
                (text.passed, text.unchecked.len(), text.rounds),
                (false, 1, 1)
            );
        }

        #[test]
        fn findings_are_left_after_the_last_round() {
            let host = Host::new().model("strong", [Reply::text("First.")]).model(
                "fast",
                [faults(&["Too long."]), faults(&["Too long.", "No date."])],
            );
            let text = host.run(run(brief(Some(1)))).unwrap();
            assert_eq!((text.passed, text.findings.len()), (false, 2));
            assert_eq!(text.findings[1].by, ["facts", "tone"]);
        }
    }
}
