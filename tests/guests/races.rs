//! Races two model calls, drops the loser, and makes a third call.

use std::pin::pin;

use agenthost_sdk::prelude::*;
use futures_util::future::select;

agenthost_sdk::plugin!(
    inline = r#"
/// Races two model calls and drops the loser.
package guests:races@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  record race {
    one: string,
    other: string,
    /// Asked once the race is over.
    after: string,
  }

  record result-of-race {
    winner: string,
    after: string,
  }

  run: async func(input: race) -> result<result-of-race, failure>;
}

world races {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Race) -> Result<ResultOfRace, Failure> {
    let winner = {
        let (one, other) = (pin!(ask(input.one)), pin!(ask(input.other)));
        select(one, other).await.factor_first().0?
    };
    let after = ask(input.after).await?;
    Ok(ResultOfRace { winner, after })
}

async fn ask(prompt: String) -> Result<String, llm::Error> {
    Prompt::new(prompt).max_tokens(100).text().await
}
