//! Checks the items of a checklist against an inbox, and reports only what has changed since the last time.

/// Checks the items of a checklist against an inbox, and reports only what has changed since the last time.
#[agenthost_sdk::task(package = "local:heartbeat@0.1.0")]
mod heartbeat {
    use std::collections::BTreeMap;

    use agenthost_sdk::memory;
    use agenthost_sdk::prelude::*;

    /// The document that is kept between runs: the last finding of each item.
    const FINDINGS: &str = "findings";

    struct Beat {
        /// Markdown, whose list items are checked.
        checklist: String,
        /// The text that they are checked against.
        inbox: String,
    }

    struct Report {
        changes: Vec<Change>,
        /// The items without a finding, and why.
        unchecked: Vec<String>,
    }

    struct Change {
        item: String,
        finding: Finding,
    }

    #[derive(Clone, Deserialize, JsonSchema, Serialize)]
    struct Finding {
        /// One sentence.
        text: String,
        state: State,
        /// Whether the text has something that the last finding does not have.
        news: bool,
    }

    #[derive(Deserialize, JsonSchema, PartialEq, Serialize)]
    enum State {
        /// There is nothing to do.
        Quiet,
        /// A person must do something.
        Attention,
    }

    /// Fails if no item has a finding.
    async fn run(beat: Beat) -> Result<Report, Failure> {
        let mut known: BTreeMap<String, Finding> = memory::get(FINDINGS)?.unwrap_or_default();
        let items: Vec<&str> = beat.checklist.lines().filter_map(item).collect();
        known.retain(|item, _| items.contains(&item.as_str()));
        let checks = items
            .iter()
            .map(|item| branch(*item, check(item, known.get(*item), &beat.inbox)));
        let (done, failed) = join::split(join::settled(checks).max_concurrent(4).await);
        let unchecked = failed.iter().map(ToString::to_string).collect();
        if let (true, Some(failed)) = (done.is_empty(), failed.into_iter().next()) {
            return Err(failed.into());
        }
        let mut changes = Vec::new();
        for done in done {
            let (item, finding) = (done.name, done.value);
            let is_change = match known.insert(item.clone(), finding.clone()) {
                Some(last) => finding.news || finding.state != last.state,
                None => finding.state == State::Attention,
            };
            if is_change {
                changes.push(Change { item, finding });
            }
        }
        memory::put(FINDINGS, &known)?;
        Ok(Report { changes, unchecked })
    }

    /// Returns the text of a list item; `None` for any other line.
    fn item(line: &str) -> Option<&str> {
        let item = line.trim_start().strip_prefix("- ")?.trim();
        (!item.is_empty()).then_some(item)
    }

    async fn check(item: &str, last: Option<&Finding>, inbox: &str) -> Result<Finding, Failure> {
        let mut prompt = Prompt::new("Check the item against the inbox.")
            .data("item", item)
            .data("inbox", inbox);
        if let Some(last) = last {
            prompt = prompt.data("last-finding", &last.text);
        }
        Ok(prompt.max_tokens(200).json().await?)
    }

    #[cfg(test)]
    mod tests {
        use super::State::{Attention, Quiet};
        use super::*;
        use agenthost_sdk::serde_json;
        use agenthost_sdk::testing::{Host, Reply};

        fn beat(checklist: &str) -> Beat {
            Beat {
                checklist: format!("# Heartbeat\n\n{checklist}-\n"),
                inbox: "It rains.".to_owned(),
            }
        }

        fn finding(text: &str, state: State, news: bool) -> Finding {
            Finding {
                text: text.to_owned(),
                state,
                news,
            }
        }

        /// Returns a host whose model replies with these findings.
        fn host(findings: impl IntoIterator<Item = Finding>) -> Host {
            Host::new().model("fast", findings.into_iter().map(Reply::json))
        }

        #[test]
        fn only_changes_are_reported() {
            let host = host([
                finding("It rains.", Attention, true),
                finding("It is early.", Quiet, true),
                finding("It rains.", Attention, false),
                finding("It is ten.", Attention, true),
            ]);
            let host = host.memory([("other", "1")]);
            for changed in ["Is it raining?", "Is it late?"] {
                let beat = beat("- Is it raining?\n- Is it late?\n");
                let changes = host.run(run(beat)).unwrap().changes;
                assert_eq!((changes.len(), changes[0].item.as_str()), (1, changed));
            }
            let requests = host.requests();
            assert!(!requests[1].text().contains("<last-finding>"));
            assert!(
                requests[3]
                    .text()
                    .contains("<last-finding>\nIt is early.\n")
            );
        }

        #[test]
        fn an_item_that_cannot_be_checked_keeps_its_finding() {
            let known =
                ["Is it late?", "Is it over?"].map(|item| (item, finding("No.", Quiet, true)));
            let known = serde_json::to_string(&BTreeMap::from(known)).unwrap();
            let host = host([finding("No rain.", Quiet, false)])
                .memory([(FINDINGS, known)])
                .model("fast", [Reply::error(llm::Error::ContextOverflow)]);
            let report = host
                .run(run(beat("- Is it raining?\n- Is it late?\n")))
                .unwrap();
            assert_eq!((report.changes.len(), report.unchecked.len()), (0, 1));
            let known = host.run(async { memory::get::<BTreeMap<String, Finding>>(FINDINGS) });
            let known = known.unwrap().unwrap().into_keys();
            assert_eq!(known.collect::<Vec<_>>(), ["Is it late?", "Is it raining?"]);
        }

        #[test]
        fn without_an_item_no_model_is_asked() {
            let host = host([]).memory([(FINDINGS, "{}")]);
            assert!(host.run(run(beat(""))).unwrap().changes.is_empty());
            assert!(host.requests().is_empty());
        }
    }
}
