//! Divides what is left among its sub-tasks, and asks a model itself at the end.

use agenthost_sdk::join::{Labeled, Settled};
use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Divides what is left among its sub-tasks, and asks a model itself at the end.
package guests:divides@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  record division {
    /// One leaf each, one after the other.
    prompts: list<string>,
    /// Give each an equal share.
    split: bool,
    /// The fewest tokens of a share.
    least: option<u64>,
    /// The percentage that the leaves leave.
    keep-back: option<u8>,
    /// Start this many leaves for each prompt, with an equal share of the prompt's share.
    within: option<u32>,
    /// Asked at the end.
    question: option<string>,
    /// Fail with the first failure of a leaf.
    strict: bool,
  }

  /// The answer or the failure of each leaf, then the answer to the question.
  run: async func(input: division) -> result<list<string>, failure>;
}

world divides {
  include agenthost:plugin/plugin@0.1.0;
  import guests:leaf/task@0.1.0;
  export task;
}

/// Asks a model once, and answers with its words.
package guests:leaf@0.1.0 {
  interface task {
    use agenthost:plugin/types@0.1.0.{failure};
    /// Takes the prompt. One that starts with `=` is the answer itself, and no model is asked.
    run: async func(input: string) -> result<string, failure>;
  }
}
"#
);

async fn run(input: Division) -> Result<Vec<String>, Failure> {
    let within = input.within;
    let calls = input.prompts.iter().map(|prompt| {
        branch(prompt, async move {
            match within {
                None => leaf::run(prompt.clone()).await,
                Some(count) => {
                    let calls = (0..count).map(|n| branch(n.to_string(), leaf::run(format!("{prompt} {n}"))));
                    let done = join::settled(calls).max_concurrent(1).split_equally().await;
                    Ok(done.into_iter().map(text).collect::<Vec<_>>().join(", "))
                }
            }
        })
    });
    let mut join: Settled<'_, _, _> = join::settled(calls).max_concurrent(1);
    if input.split {
        join = join.split_equally();
    }
    if let Some(tokens) = input.least {
        join = join.least_tokens(tokens);
    }
    if let Some(percent) = input.keep_back {
        join = join.keep_back(percent);
    }
    let done = join.await;
    if input.strict
        && let Some(failure) = done.iter().find_map(|done| done.value.as_ref().err())
    {
        return Err(failure.clone());
    }
    let mut told: Vec<String> = done.into_iter().map(text).collect();
    if let Some(question) = input.question {
        told.push(Prompt::new(question).max_tokens(100).text().await?);
    }
    Ok(told)
}

fn text(done: Labeled<Result<String, Failure>>) -> String {
    done.value.unwrap_or_else(|failure| failure.to_string())
}
