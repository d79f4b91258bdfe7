//! Ends badly, in the way that its input names.
#![expect(clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]

use std::hint::black_box;

agenthost_sdk::plugin!(
    inline = r#"
/// Ends badly, in the way that its input names.
package guests:misbehaves@0.1.0;

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

world misbehaves {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Behaviour) -> Result<String, Failure> {
    match input {
        Behaviour::Ok => Ok("fine".to_owned()),
        Behaviour::Fail => Err(Failure::failed("as asked")),
        Behaviour::Loop => loop {
            black_box(0);
        },
        Behaviour::GrowMemory => {
            let mut held = Vec::new();
            loop {
                held.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        Behaviour::Recurse => Ok(recurse(0).to_string()),
        Behaviour::Panic => panic!("as asked"),
        Behaviour::Exit => std::process::exit(3),
        Behaviour::PrintForever => loop {
            println!("one more line");
            eprintln!("one more line");
        },
        Behaviour::Wait => std::future::pending().await,
        Behaviour::LargeOutput => Ok("x".repeat(9_000_000)),
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    if black_box(depth) == u64::MAX {
        0
    } else {
        recurse(depth + 1) + frame.iter().sum::<u64>()
    }
}
