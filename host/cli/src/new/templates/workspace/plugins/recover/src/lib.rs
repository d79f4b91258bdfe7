//! Does a task; after a failure it tries a simpler form, then another way, and at last hands over to a person.

/// Does a task; after a failure it tries a simpler form, then another way, and at last hands over to a person.
#[agenthost_sdk::task(
    package = "local:recover@0.1.0",
    imports("agenthost:ask@0.1.0"),
    path = "../../wit"
)]
mod recover {
    use agenthost_sdk::prelude::*;
    use agenthost_sdk::serde_json;

    struct Job {
        task: String,
        /// The text to work on.
        material: String,
    }

    /// The form of the task that worked.
    #[derive(Clone, Copy)]
    enum Path {
        AsAsked,
        /// The most important part of the task, on the beginning of the material.
        Simpler,
        /// In another way, by the strong model.
        Alternative,
    }

    struct Done {
        answer: String,
        path: Path,
    }

    /// Fails as `escalated` if no form of the task worked, with the reason of each.
    async fn run(job: Job) -> Result<Done, Failure> {
        let paths = [
            ("as asked", Path::AsAsked),
            ("simpler", Path::Simpler),
            ("alternative", Path::Alternative),
        ];
        let attempts = paths.map(|(name, path)| branch(name, attempt(path, &job)));
        // One after the other, each with a share of its own, until one has an answer.
        let first = join::first(attempts).max_concurrent(1).split_equally();
        match first.await {
            Ok(done) => Ok(done.value),
            Err(none) => Err(Failure::Escalated(format!("{}: {none}", job.task))),
        }
    }

    async fn attempt(path: Path, job: &Job) -> Result<Done, Failure> {
        let (before, most, model) = match path {
            Path::AsAsked => ("", usize::MAX, "fast"),
            Path::Simpler => ("Do only the most important part of this: ", 2_000, "fast"),
            Path::Alternative => (
                "The usual way has failed, so take another: ",
                usize::MAX,
                "strong",
            ),
        };
        let material = ask::Document {
            name: "material".to_owned(),
            text: job.material.chars().take(most).collect(),
        };
        let answer = ask::run(ask::Question {
            task: format!("{before}{}", job.task),
            documents: Some(vec![material]),
            model: Some(model.to_owned()),
            system: Some("If there is no answer, reply `CANNOT: ` and the reason.".to_owned()),
            schema: None,
            max_tokens: Some(800),
        });
        let answer: String = serde_json::from_str(&answer.await?)?;
        match answer.trim_start().strip_prefix("CANNOT: ") {
            Some(reason) => Err(Failure::failed(reason)),
            None => Ok(Done { answer, path }),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use agenthost_sdk::testing::Host;

        /// Runs the task on a host on which `agenthost:ask` answers in this way.
        fn run_with(
            answer: fn(&ask::Question) -> Result<&'static str, Failure>,
        ) -> (Result<Done, Failure>, Host) {
            let answer =
                move |question: ask::Question| answer(&question).map(|text| format!("\"{text}\""));
            let host = Host::new().sub_agent(ask::run, answer);
            let job = Job {
                task: "Find the cause.".to_owned(),
                material: "x".repeat(9_000),
            };
            (host.run(run(job)), host)
        }

        #[test]
        fn the_first_form_that_works_is_the_last() {
            let (done, host) = run_with(|question| match question.task.starts_with("Do only") {
                true => Ok("The linker."),
                false => Err(Failure::ContextOverflow),
            });
            assert!(done.is_ok_and(|done| matches!(done.path, Path::Simpler)));
            let asked = host.inputs(ask::run);
            let sizes = asked
                .iter()
                .map(|question| question.documents.as_ref().unwrap()[0].text.len());
            assert_eq!(sizes.collect::<Vec<_>>(), [9_000, 2_000]);
        }

        #[test]
        fn a_person_gets_every_reason() {
            let (failed, host) = run_with(|question| match question.model.as_deref() {
                Some("strong") => Err(Failure::Exhausted(Limit::Cost)),
                _ => Ok("CANNOT: it has no log"),
            });
            let Err(Failure::Escalated(text)) = failed else {
                panic!("an escalation")
            };
            for reason in [
                "as asked: it has no log",
                "simpler: it has no log",
                "alternative: limit reached: cost",
            ] {
                assert!(text.contains(reason), "{text}");
            }
            assert_eq!(
                (host.inputs(ask::run).len(), host.most_concurrent()),
                (3, 1)
            );
        }
    }
}
