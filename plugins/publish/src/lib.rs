//! Drafts a document, has it checked three ways at once, and revises it at most once.
//!
//! All checks get the same draft, and their issues are merged by fault and passage. A check that fails does not count
//! as passed: the verdict names it. Left out: a third draft; after the second, a person decides.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

async fn run(brief: Brief) -> Result<Publication, Failure> {
    let document = draft::run(draft::Order::Write(brief)).await?;
    let mut found = check(&document).await;
    if found.issues.is_empty() {
        return Ok(publication(document, 1, found));
    }
    progress(1, 2, "revising the draft");
    let revision = draft::Revision {
        document: document.clone(),
        issues: found.issues.iter().map(|raised| raised.issue.clone()).collect(),
    };
    match draft::run(draft::Order::Revise(revision)).await {
        Ok(second) => {
            let found = check(&second).await;
            Ok(publication(second, 2, found))
        }
        // If the second draft fails, the first draft and its issues are kept.
        Err(failure) => {
            found.not_revised = Some(failure);
            Ok(publication(document, 1, found))
        }
    }
}

/// Runs all checks at once, each on the same draft.
async fn check(document: &Document) -> Objections {
    let results = join::settled([
        branch("fact-check", fact_check::run(document.clone())),
        branch("brand-voice", brand_voice::run(document.clone())),
        branch("security-review", security_review::run(document.clone())),
    ])
    .split_equally()
    .await;
    let checks = [Check::Facts, Check::Voice, Check::Security];
    merge(checks.into_iter().zip(results.into_iter().map(|branch| branch.value)))
}

/// Merges the issues: one per fault and passage, in the order of the checks, with all checks that raised it.
fn merge(results: impl IntoIterator<Item = (Check, Result<Vec<Issue>, Failure>)>) -> Objections {
    let mut merged = Objections {
        issues: Vec::new(),
        unchecked: Vec::new(),
        not_revised: None,
    };
    for (check, result) in results {
        let issues = match result {
            Ok(issues) => issues,
            Err(failure) => {
                merged.unchecked.push(Unchecked { check, failure });
                continue;
            }
        };
        for issue in issues {
            match merged
                .issues
                .iter_mut()
                .find(|raised| key(&raised.issue) == key(&issue))
            {
                Some(raised) if raised.by.contains(&check) => {}
                Some(raised) => raised.by.push(check),
                None => merged.issues.push(Raised { issue, by: vec![check] }),
            }
        }
    }
    merged
}

/// The identity of an issue: the kind of fault and the passage, regardless of case and spacing.
fn key(issue: &Issue) -> (draft::Fault, String) {
    let words: Vec<&str> = issue.passage.split_whitespace().collect();
    (issue.fault, words.join(" ").to_lowercase())
}

fn publication(document: Document, drafts: u8, found: Objections) -> Publication {
    let verdict = if found.issues.is_empty() && found.unchecked.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Objections(found)
    };
    Publication {
        document,
        drafts,
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::draft::Fault;
    use super::*;
    use agenthost_sdk::testing::Host;

    fn issue(fault: Fault, passage: &str, problem: &str) -> Issue {
        Issue {
            fault,
            passage: passage.to_owned(),
            problem: problem.to_owned(),
            remedy: String::new(),
        }
    }

    fn document() -> Document {
        let brief = Brief {
            subject: String::new(),
            audience: String::new(),
            facts: vec![],
            voice: String::new(),
        };
        Document {
            brief,
            title: String::new(),
            text: String::new(),
        }
    }

    #[test]
    fn the_same_fault_of_the_same_passage_is_one_issue_with_all_that_raised_it() {
        let claim = issue(Fault::UnsupportedClaim, "Twice as  Fast", "nobody measured");
        let again = issue(Fault::UnsupportedClaim, "twice as fast", "says who?");
        let voice = issue(Fault::OffVoice, "twice as fast", "too loud");
        let merged = merge([
            (Check::Facts, Ok(vec![claim.clone(), again.clone()])),
            (Check::Voice, Ok(vec![voice.clone(), again])),
            (Check::Security, Ok(vec![])),
        ]);
        let raised = |issue: Issue, by: &[Check]| Raised { issue, by: by.to_vec() };
        assert_eq!(
            merged.issues,
            [
                raised(claim, &[Check::Facts, Check::Voice]),
                raised(voice, &[Check::Voice])
            ]
        );
        assert_eq!(merged.unchecked, []);
    }

    #[test]
    fn only_checks_that_were_made_and_found_nothing_are_a_pass() {
        let nothing = || Ok(vec![]);
        let passed = merge([(Check::Facts, nothing()), (Check::Voice, nothing())]);
        assert_eq!(publication(document(), 1, passed).verdict, Verdict::Pass);

        let failed = merge([(Check::Facts, Err(Failure::Cancelled)), (Check::Voice, nothing())]);
        let Verdict::Objections(objections) = publication(document(), 1, failed).verdict else {
            panic!("a failed check is no pass")
        };
        let expected = Unchecked {
            check: Check::Facts,
            failure: Failure::Cancelled,
        };
        assert_eq!((objections.issues, objections.unchecked), (vec![], vec![expected]));
    }

    /// Returns a host whose writer numbers its drafts, and whose facts are checked by `facts`.
    fn host(facts: impl FnMut(Document) -> Result<Vec<Issue>, Failure> + 'static) -> Host {
        let mut drafts = 0;
        Host::new()
            .sub_agent(draft::run, move |_| {
                drafts += 1;
                let title = drafts.to_string();
                Ok(Document { title, ..document() })
            })
            .sub_agent(fact_check::run, facts)
            .sub_agent(brand_voice::run, |_| Ok(vec![]))
            .sub_agent(security_review::run, |_| Ok(vec![]))
    }

    #[test]
    fn a_draft_without_issues_is_the_only_one() {
        let host = host(|_| Ok(vec![]));
        let published = host.run(run(document().brief)).unwrap();
        assert_eq!((published.drafts, published.verdict), (1, Verdict::Pass));
        assert_eq!(host.most_concurrent(), 3, "the checks run at once");
    }

    #[test]
    fn an_issue_leads_to_one_revision_which_is_checked_again() {
        let claim = issue(Fault::WrongFact, "June", "It is May.");
        let found = claim.clone();
        let host = host(move |draft| {
            Ok(if draft.title == "1" {
                vec![found.clone()]
            } else {
                vec![]
            })
        });
        let published = host.run(run(document().brief)).unwrap();
        assert_eq!((published.document.title.as_str(), published.drafts), ("2", 2));
        assert_eq!(published.verdict, Verdict::Pass);
        let draft::Order::Revise(revision) = &host.inputs(draft::run)[1] else {
            panic!("the second order is a revision")
        };
        assert_eq!(
            (revision.document.title.as_str(), &revision.issues),
            ("1", &vec![claim])
        );
    }

    #[test]
    fn a_first_draft_is_not_lost_with_the_second() {
        let host = host(|_| Ok(vec![issue(Fault::WrongFact, "June", "It is May.")]));
        let host = host.sub_agent(draft::run, |order| match order {
            draft::Order::Write(_) => Ok(document()),
            draft::Order::Revise(_) => Err(Failure::Exhausted(Limit::Cost)),
        });
        let published = host.run(run(document().brief)).unwrap();
        let Verdict::Objections(objections) = published.verdict else {
            panic!("there is an issue")
        };
        assert_eq!(objections.not_revised, Some(Failure::Exhausted(Limit::Cost)));
        assert_eq!((published.drafts, objections.issues.len()), (1, 1));
    }
}
