//! Returns the rest of its limits before and after a model call.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(path = "wit/remaining");

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
