//! Returns the rest of its limits before and after a model call.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Returns the rest of its limits before and after a model call.
package guests:remaining@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  record left {
    tokens: option<u64>,
    cost-micro-usd: option<u64>,
    calls: option<u64>,
    fuel: option<u64>,
    time-ms: option<u64>,
  }

  record before-and-after { before: left, after: left }

  /// Takes the prompt.
  run: async func(input: string) -> result<before-and-after, failure>;
}

world remaining {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: String) -> Result<BeforeAndAfter, Failure> {
    let before = left();
    Prompt::new(input).max_tokens(100).text().await?;
    Ok(BeforeAndAfter { before, after: left() })
}

fn left() -> Left {
    let left = remaining();
    Left {
        tokens: left.tokens,
        cost_micro_usd: left.cost_micro_usd,
        calls: left.calls,
        fuel: left.fuel,
        time_ms: left.time_ms,
    }
}
