//! Asks a model once, and answers with its words.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Asks a model once, and answers with its words.
package guests:leaf@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};
  /// Takes the prompt. One that starts with `=` is the answer itself, and no model is asked.
  run: async func(input: string) -> result<string, failure>;
}

world leaf {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: String) -> Result<String, Failure> {
    match input.strip_prefix('=') {
        Some(answer) => Ok(answer.to_owned()),
        None => Ok(Prompt::new(input).max_tokens(100).text().await?),
    }
}
