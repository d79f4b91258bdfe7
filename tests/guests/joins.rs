//! Starts a leaf per prompt under one of the SDK's join policies, and returns the result.
#![expect(clippy::panic, reason = "what a policy of its own is for")]

use std::fmt::Display;

use agenthost_sdk::join::{Labeled, Tie};
use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r#"
/// Starts a leaf per prompt under one of the SDK's join policies, and returns the result.
package guests:joins@0.1.0;

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

world joins {
  include agenthost:plugin/plugin@0.1.0;
  import guests:leaf/task@0.1.0;
  export task;
}

/// Asks a model once, and answers with its words.
package guests:leaf@0.1.0 {
  interface task {
    use agenthost:plugin/types@0.1.0.{failure};
    /// Takes the prompt. One that starts with `=` is the answer itself, and no model is asked.
    run: async func(input: string) -> result<string, failure>;
  }
}
"#
);

async fn run(input: Plan) -> Result<Joined, Failure> {
    for _ in 1..input.rounds.unwrap_or(1) {
        once(&input).await;
    }
    let (decision, lanes) = once(&input).await;
    let after = match input.after {
        Some(prompt) => Some(leaf::run(prompt).await?),
        None => None,
    };
    Ok(Joined { decision, lanes, after })
}

async fn once(input: &Plan) -> (String, Vec<Lane>) {
    let calls = input
        .prompts
        .iter()
        .enumerate()
        .map(|(n, prompt)| branch(format!("lane {n}"), leaf::run(prompt.clone())));
    let most = input.at_once.map_or(usize::MAX, |most| most as usize);
    let ok = "ok".to_owned();
    match input.policy {
        Policy::All => match join::all(calls).max_concurrent(most).await {
            Ok(done) => (ok, list("done", done)),
            Err(error) => (error.to_string(), list("failed", [error])),
        },
        Policy::Settled => {
            let told = join::settled(calls).max_concurrent(most).await.into_iter().map(|done| {
                done.transpose()
                    .map_or_else(|error| told("failed", error), |done| told("done", done))
            });
            (ok, told.collect())
        }
        Policy::Quorum(wanted) => match join::quorum(wanted as usize, calls).max_concurrent(most).await {
            Ok(done) => (ok, list("done", done)),
            Err(error) => (error.to_string(), list("failed", error.failed)),
        },
        Policy::First => match join::first(calls).max_concurrent(most).await {
            Ok(done) => (ok, list("done", [done])),
            Err(error) => (error.to_string(), list("failed", error.failed)),
        },
        Policy::Crash => {
            // A lane that panics when the first is done, while the policy still holds the others.
            let calls = calls.enumerate().map(|(n, call)| {
                branch("crash", async move {
                    let done = join::first([call]).await;
                    if n == 0 {
                        panic!("as asked");
                    }
                    done
                })
            });
            join::settled(calls).await;
            (ok, vec![])
        }
        Policy::Vote | Policy::VoteOrFail => {
            let tie = if matches!(input.policy, Policy::Vote) {
                Tie::First
            } else {
                Tie::Fail
            };
            match join::vote(tie, calls).max_concurrent(most).await {
                Ok(tally) => {
                    let mut lanes = list("winner", [tally.winner]);
                    lanes.extend(list("agreed", tally.agreed));
                    lanes.extend(list("dissent", tally.dissent));
                    lanes.extend(list("abstained", tally.failed));
                    (ok, lanes)
                }
                Err(error) => (error.to_string(), list("abstained", error.failed)),
            }
        }
    }
}

fn list<V: Display>(how: &str, done: impl IntoIterator<Item = Labeled<V>>) -> Vec<Lane> {
    done.into_iter().map(|done| told(how, done)).collect()
}

fn told<V: Display>(how: &str, done: Labeled<V>) -> Lane {
    Lane {
        how: how.to_owned(),
        index: done.index as u32,
        name: done.name,
        text: done.value.to_string(),
    }
}
