//! Lets a model add numbers with a tool, and returns its answer.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Lets a model add numbers.
package guests:adds@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  record sum {
    /// The text for the model.
    question: string,
    /// The most model calls.
    turns: u32,
    /// The number of conversations, which run at the same time.
    conversations: option<u32>,
  }

  /// One answer per conversation.
  run: async func(input: sum) -> result<list<string>, failure>;
}

world adds {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

#[derive(Deserialize, JsonSchema)]
struct Numbers {
    /// The numbers to add.
    numbers: Vec<i64>,
}

async fn run(input: Sum) -> Result<Vec<String>, Failure> {
    let conversation = |number: u32| {
        let add = Tool::new::<Numbers>("add", "Adds numbers.", async |numbers: Numbers| {
            numbers
                .numbers
                .into_iter()
                .try_fold(0_i64, i64::checked_add)
                .ok_or("the sum is too large")
        });
        let prompt = Prompt::new(&input.question).data("conversation", number.to_string());
        prompt.max_tokens(100).tool(add).run(input.turns)
    };
    let replies = try_join_all((0..input.conversations.unwrap_or(1)).map(conversation)).await?;
    Ok(replies.iter().map(agenthost_sdk::llm::Reply::text).collect())
}
