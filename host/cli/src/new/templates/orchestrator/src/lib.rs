//! Puts one question to several experts at once, a sub-task each, and condenses their opinions.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(); // reads wit/: brings the types, and exports `run`
use my_plugin_expert as expert; // the imported task: its types, and `run`, which starts a sub-task

async fn run(question: Question) -> Result<Advice, Failure> {
    let ask = |role: String| {
        let (name, text) = (role.clone(), question.text.clone());
        branch(name, expert::run(expert::Matter { text, role }))
    };
    // Every result is kept, and a failed branch is a value; `join` has other policies, too.
    let branches = once(question.roles).into_iter().map(ask);
    let (done, failed) = join::split(join::settled(branches).max_concurrent(8).await);
    let missing = failed.iter().map(ToString::to_string).collect();
    if done.is_empty() {
        let first = failed.into_iter().next();
        return Err(first.map_or(Failure::failed("no experts given"), Failure::from));
    }
    let mut opinions: Vec<Opinion> = done.into_iter().map(|branch| branch.value).collect();
    opinions.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut prompt = Prompt::new("Condense the opinions.").data("question", &question.text);
    for opinion in &opinions {
        prompt = prompt.data("opinion", format!("{}: {}", opinion.role, opinion.text));
    }
    let answer = prompt.model("strong").max_tokens(800).text().await?;
    Ok(Advice {
        answer,
        opinions,
        missing,
    })
}

/// Removes repeated roles: an expert that is asked twice is paid twice.
fn once(mut roles: Vec<String>) -> Vec<String> {
    let mut asked = std::collections::BTreeSet::new();
    roles.retain(|role| asked.insert(role.clone()));
    roles
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::testing::{Host, Reply};

    fn question(roles: &[&str]) -> Question {
        Question {
            text: "Where does the table go?".to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        }
    }

    /// Returns a host on which this closure replaces the expert.
    fn host() -> Host {
        Host::new().sub_agent(expert::run, |matter| match matter.role.as_str() {
            "a lawyer" => Err(Failure::Exhausted(Limit::Time)),
            _ => Ok(Opinion {
                role: matter.role,
                text: "To the window.".to_owned(),
                confidence: 0.5,
            }),
        })
    }

    #[test]
    fn an_expert_that_fails_is_named() {
        let host = host().model("strong", [Reply::text("By the window.")]);
        let roles = ["a nurse", "a lawyer", "an architect"];
        let advice = host.run(run(question(&roles))).unwrap();
        assert_eq!(advice.answer, "By the window.");
        assert_eq!(advice.missing, ["a lawyer: limit reached: time"]);
        assert_eq!((advice.opinions.len(), host.most_concurrent()), (2, 3));
        let asked = host.requests()[0].text();
        assert!(asked.contains("a nurse: To the window."));
    }

    #[test]
    fn without_an_opinion_the_task_fails() {
        let failed = host().run(run(question(&["a lawyer"])));
        assert_eq!(failed, Err(Failure::Exhausted(Limit::Time)));
    }

    #[test]
    fn each_expert_is_asked_once() {
        let roles = ["a nurse", "a lawyer", "a nurse"].map(str::to_owned);
        assert_eq!(once(roles.to_vec()), ["a nurse", "a lawyer"]);
    }
}
