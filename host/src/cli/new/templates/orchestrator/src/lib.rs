//! Puts one question to several experts at once, a sub-task each, and condenses what they say.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(); // reads wit/: brings the types, and exports `run`

use my_plugin_expert as expert; // the imported task: its types, and `run`, which starts a sub-task

async fn run(question: Question) -> Result<Advice, Failure> {
    let (text, roles) = (question.text, question.roles);
    let ask = |role: String| lane(role.clone(), expert::run(matter(&text, role)));
    // Every result is kept, and a failed lane is a value; `join` has other policies, too.
    let results = join::settled(roles.into_iter().map(ask)).at_once(8).await;
    let (done, failed) = join::split(results);
    let missing = failed.iter().map(ToString::to_string).collect();
    if done.is_empty() {
        let first = failed.into_iter().next();
        return Err(first.map_or(Failure::failed("there is nobody to ask"), Failure::from));
    }
    let mut opinions: Vec<Opinion> = done.into_iter().map(|lane| lane.value).collect();
    opinions.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut prompt = Prompt::new("Condense the opinions into one answer.").data("question", &text);
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

fn matter(text: &str, role: String) -> expert::Matter {
    let text = format!("{} Answer for {role}.", text.trim());
    expert::Matter { text, role }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_expert_is_told_for_whom_it_answers() {
        let matter = super::matter("Which? ", "a nurse".to_owned());
        assert_eq!(matter.text, "Which? Answer for a nurse.");
    }
}
