//! Starts `misbehaves` as a sub-agent, once for each behavior that its input names.

use agenthost_sdk::join_all;

agenthost_sdk::plugin!(
    inline = r#"
/// Starts a sub-agent for each behavior, all at once, and returns how each ended.
package guests:starts@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};
  use guests:misbehaves/task@0.1.0.{behaviour};

  /// Which sub-agents to start.
  record plan {
    behaviours: list<behaviour>,
    /// Start them one after the other.
    in-turn: bool,
    /// Return as soon as the first is done, which cancels the others.
    first-only: bool,
  }

  /// One text for each sub-agent: `ok: …` or the failure.
  run: async func(input: plan) -> result<list<string>, failure>;
}

world starts {
  include agenthost:plugin/plugin@0.1.0;
  import guests:misbehaves/task@0.1.0;
  export task;
}

/// Ends badly, in the way that its input names.
package guests:misbehaves@0.1.0 {
  interface task {
    use agenthost:plugin/types@0.1.0.{failure};

    enum behaviour {
      /// Returns an output, for comparison.
      ok,
      /// Returns a failure of its own.
      fail,
      /// Computes forever.
      loop,
      /// Allocates until nothing is left.
      grow-memory,
      /// Calls itself until the stack is full.
      recurse,
      panic,
      /// Leaves the process with an error code.
      exit,
      /// Writes to stdout and stderr forever.
      print-forever,
      /// Waits for something that never comes.
      wait,
      /// Returns a text of nine million bytes.
      large-output,
    }

    run: async func(input: behaviour) -> result<string, failure>;
  }
}
"#
);

async fn run(input: Plan) -> Result<Vec<String>, Failure> {
    let start = async |behaviour| match misbehaves::run(behaviour).await {
        Ok(text) => format!("ok: {text}"),
        Err(failure) => format!("{failure:?}"),
    };
    if input.first_only {
        let mut starts: Vec<_> = input
            .behaviours
            .into_iter()
            .map(|behaviour| Box::pin(start(behaviour)))
            .collect();
        let first = std::future::poll_fn(|cx| {
            starts
                .iter_mut()
                .map(|start| start.as_mut().poll(cx))
                .find(std::task::Poll::is_ready)
                .unwrap_or(std::task::Poll::Pending)
        });
        return Ok(vec![first.await]);
    }
    if input.in_turn {
        let mut texts = Vec::new();
        for behaviour in input.behaviours {
            texts.push(start(behaviour).await);
        }
        return Ok(texts);
    }
    Ok(join_all(input.behaviours.into_iter().map(start)).await)
}
