//! Starts a leaf per prompt, with an interface written in Rust.

/// Starts a leaf per prompt.
#[agenthost_sdk::task(
    package = "guests:leads@0.1.0",
    imports("guests:leaf@0.1.0"),
    inline = r#"/// Asks a model once, and answers with its words.
package guests:leaf@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};
  /// Takes the prompt. One that starts with `=` is the answer itself, and no model is asked.
  run: async func(input: string) -> result<string, failure>;
}"#
)]
mod leads {
    use agenthost_sdk::prelude::*;

    /// The questions for the leaves.
    struct Plan {
        prompts: Vec<String>,
    }

    async fn run(plan: Plan) -> Result<Vec<String>, Failure> {
        try_join_all(plan.prompts.into_iter().map(leaf::run)).await
    }
}
