//! Starts a sub-task for each prompt, asks a model meanwhile, and asks it again when all have ended.

use agenthost_sdk::prelude::*;
use futures_util::future::join;

agenthost_sdk::plugin!(
    inline = r#"
/// Starts a sub-task for each prompt, and asks a model about all answers.
package guests:gathers@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  record gathering {
    /// One sub-task each.
    prompts: list<string>,
    /// Asked while the sub-tasks run, and again when they have ended.
    question: string,
    /// Return the failures of sub-tasks instead of failing with the first.
    tolerant: bool,
  }

  /// The answers of the sub-tasks, then the two of the model.
  run: async func(input: gathering) -> result<list<string>, failure>;
}

world gathers {
  include agenthost:plugin/plugin@0.1.0;
  import guests:touches/task@0.1.0;
  export task;
}

/// Uses every host function once, and answers with a model's words.
package guests:touches@0.1.0 {
  interface task {
    use agenthost:plugin/types@0.1.0.{failure};
    /// Takes the prompt.
    run: async func(input: string) -> result<string, failure>;
  }
}
"#
);

async fn run(input: Gathering) -> Result<Vec<String>, Failure> {
    let ask = async |when: &str| {
        let prompt = format!("{} {when}", input.question);
        Prompt::new(prompt).max_tokens(100).text().await
    };
    let started = input.prompts.into_iter().map(touches::run);
    let (answers, meanwhile) = join(join_all(started), ask("meanwhile")).await;
    let mut told = Vec::new();
    for answer in answers {
        told.push(match answer {
            Err(failure) if input.tolerant => format!("{failure:?}"),
            answer => answer?,
        });
    }
    told.extend([meanwhile?, ask("at the end").await?]);
    Ok(told)
}
