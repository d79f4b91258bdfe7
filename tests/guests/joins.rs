//! Starts a leaf per prompt under one of the SDK's join policies, and returns the result.
#![expect(clippy::panic, reason = "what a policy of its own is for")]

use std::fmt::Display;

use agenthost_sdk::join::{Done, Tie};
use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(path = "wit/joins");

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
                    lanes.extend(list("abstained", tally.abstained));
                    (ok, lanes)
                }
                Err(error) => (error.to_string(), list("abstained", error.abstained)),
            }
        }
    }
}

fn list<V: Display>(how: &str, done: impl IntoIterator<Item = Done<V>>) -> Vec<Lane> {
    done.into_iter().map(|done| told(how, done)).collect()
}

fn told<V: Display>(how: &str, done: Done<V>) -> Lane {
    Lane {
        how: how.to_owned(),
        index: done.index as u32,
        name: done.name,
        text: done.value.to_string(),
    }
}
