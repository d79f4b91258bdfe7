//! Uses every host function once, and answers with a model's words.
#![expect(clippy::print_stdout, reason = "what it is for")]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::SystemTime;

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Uses every host function once, and answers with a model's words.
package guests:touches@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};
  /// Takes the prompt.
  run: async func(input: string) -> result<string, failure>;
}

world touches {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: String) -> Result<String, Failure> {
    println!("{:?} {}", SystemTime::now(), RandomState::new().hash_one(1));
    progress(1, 2, "asking");
    let before = remaining().calls;
    let answer = Prompt::new(input).max_tokens(100).text().await?;
    if before < remaining().calls {
        return Err(Failure::failed("there are more calls left than before"));
    }
    Ok(answer)
}
