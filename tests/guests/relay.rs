//! Hands its input to `joins`, and its output back: one level more.

agenthost_sdk::plugin!(
    inline = r#"
/// Hands its input to `joins`, and its output back: one level more.
package guests:relay@0.1.0;

interface task {
  use guests:joins/task@0.1.0.{plan, joined};
  /// Fails with the failure in words.
  run: async func(input: plan) -> result<joined, string>;
}

world relay {
  include agenthost:plugin/plugin@0.1.0;
  import guests:joins/task@0.1.0;
  export task;
}

/// Starts a leaf per prompt under one of the SDK's join policies, and returns the result.
package guests:joins@0.1.0 {
  interface task {
    use agenthost:plugin/types@0.1.0.{failure};

    variant policy {
      all,
      settled,
      quorum(u32),
      first,
      /// With the first answer where there is a tie.
      vote,
      /// Without a winner where there is a tie.
      vote-or-fail,
      /// Panics when the first is done, with the others on their way.
      crash,
    }

    record plan {
      policy: policy,
      /// One leaf each.
      prompts: list<string>,
      /// How many leaves run at a time.
      at-once: option<u32>,
      /// The number of repetitions, one after the other; the last one is returned.
      rounds: option<u32>,
      /// Asked of one more leaf at the end.
      after: option<string>,
    }

    record lane {
      /// `done`, `failed`, `winner`, `agreed`, `dissent` or `abstained`.
      how: string,
      index: u32,
      name: string,
      /// The answer, or the failure.
      text: string,
    }

    record joined {
      /// `ok`, or why the policy failed.
      decision: string,
      lanes: list<lane>,
      after: option<string>,
    }

    run: async func(input: plan) -> result<joined, failure>;
  }
}
"#
);

async fn run(input: Plan) -> Result<Joined, String> {
    joins::run(input).await.map_err(|failure| format!("{failure:?}"))
}
