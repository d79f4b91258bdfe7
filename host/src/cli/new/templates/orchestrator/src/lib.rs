//! Puts one question to several experts at once, a sub-task each, and condenses what they say.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(); // reads wit/: brings the types, and exports `run`

use my_plugin_expert as expert; // the imported task: its types, and `run`, which starts a sub-task

async fn run(question: Question) -> Result<Advice, Failure> {
    let lanes = question.roles.iter().map(|role| {
        let matter = expert::Matter { text: question.text.clone(), role: role.clone() };
        lane(role, expert::run(matter))
    });
    // Every result is kept, and a failed lane is a value; `join` has other policies, too.
    let (done, failed) = join::split(join::settled(lanes).at_once(8).await);
    let missing = failed.iter().map(ToString::to_string).collect();
    if done.is_empty() {
        let first = failed.into_iter().next();
        return Err(first.map_or(Failure::failed("there is nobody to ask"), Failure::from));
    }
    let opinions = surest_first(done.into_iter().map(|lane| lane.value).collect());
    let mut prompt = Prompt::new("Condense the opinions into one answer to the question.")
        .data("question", &question.text);
    for opinion in &opinions {
        prompt = prompt.data("opinion", format!("{}: {}", opinion.role, opinion.text));
    }
    let answer = prompt.model("strong").max_tokens(800).text().await?;
    Ok(Advice { answer, opinions, missing })
}

fn surest_first(mut opinions: Vec<expert::Opinion>) -> Vec<expert::Opinion> {
    opinions.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    opinions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_opinion_comes_first() {
        let opinion = |confidence| Opinion { role: "a".into(), text: "b".into(), confidence };
        let order: Vec<f32> =
            surest_first(vec![opinion(0.2), opinion(0.9)]).iter().map(|one| one.confidence).collect();
        assert_eq!(order, [0.9, 0.2]);
    }
}
