//! Outputs the given text in every way that a guest has: logs, progress, output, failures and panics.
#![expect(clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Outputs the given text in every way that a guest has.
package guests:says@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  record words {
    /// The text for stdout and stderr.
    log: option<string>,
    /// The text to report as progress, before a call that the model answers.
    progress: option<string>,
    /// The failure; without one, the output is what the model answered, or nothing.
    fails: option<string>,
    /// The message of a panic.
    panics: option<string>,
  }

  run: async func(input: words) -> result<string, failure>;
}

world says {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Words) -> Result<String, Failure> {
    if let Some(log) = &input.log {
        println!("{log}");
        eprintln!("{log}");
    }
    if let Some(words) = input.panics {
        panic!("{words}");
    }
    let mut answer = String::new();
    if let Some(words) = &input.progress {
        agenthost_sdk::progress(1, 3, words);
        answer = Prompt::new(words).text().await?;
        agenthost_sdk::progress(2, 3, words);
    }
    match input.fails {
        Some(reason) => Err(Failure::failed(reason)),
        None => Ok(answer),
    }
}
