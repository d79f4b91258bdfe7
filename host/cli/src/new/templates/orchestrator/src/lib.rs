//! Puts one question to several experts at once, a sub-task each, and condenses what they say.

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
        return Err(first.map_or(Failure::failed("there is nobody to ask"), Failure::from));
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

/// Each role once: an expert that is asked twice is paid twice.
fn once(mut roles: Vec<String>) -> Vec<String> {
    let mut asked = std::collections::BTreeSet::new();
    roles.retain(|role| asked.insert(role.clone()));
    roles
}

#[cfg(test)]
mod tests {
    #[test]
    fn nobody_is_asked_twice() {
        let roles = ["a nurse", "a lawyer", "a nurse"].map(str::to_owned);
        assert_eq!(super::once(roles.to_vec()), ["a nurse", "a lawyer"]);
    }
}
