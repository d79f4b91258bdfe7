//! Looks at everything that a task could see of the world outside it.
#![cfg_attr(
    target_arch = "wasm32",
    expect(unsafe_code, reason = "reading memory that nobody gave it is what it is for")
)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

agenthost_sdk::plugin!(
    inline = r#"
/// Looks at everything that a task could see of the world outside it.
package guests:probes@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  record probe {
    /// Written into the task's memory, and left there.
    leave: string,
    /// A text to look for in all of the task's memory, each byte with its bits flipped, so that the input itself does not match.
    look-for: list<u8>,
  }

  record findings {
    vars: list<string>,
    args: list<string>,
    /// Bytes that could be read from stdin.
    stdin: u64,
    /// Nanoseconds since 1970, before and after an hour's sleep.
    wall-clock: list<u64>,
    /// Nanoseconds that the sleep took.
    slept: u64,
    random: list<u64>,
    /// The value of a static counter after counting this task.
    counter: u32,
    /// Places in memory that contained the text.
    found: u32,
    /// Bytes of memory that were searched.
    searched: u64,
  }

  run: async func(input: probe) -> result<findings, failure>;
}

world probes {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Memory asked for beyond what the task has, since what another task left would lie there too: 4 MiB.
#[cfg(target_arch = "wasm32")]
const MORE_PAGES: usize = 64;

async fn run(input: Probe) -> Result<Findings, Failure> {
    let before = wall_clock();
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(3600));
    let slept = nanos(start.elapsed());
    let left = black_box(input.leave.repeat(100));
    let (found, searched) = search(&input.look_for);
    drop(black_box(left));
    Ok(Findings {
        vars: std::env::vars().map(|(name, _)| name).collect(),
        args: std::env::args().collect(),
        stdin: std::io::stdin().read_to_end(&mut Vec::new()).unwrap_or_default() as u64,
        wall_clock: vec![before, wall_clock()],
        slept,
        random: vec![RandomState::new().hash_one(1), RandomState::new().hash_one(2)],
        counter: COUNTER.fetch_add(1, Ordering::Relaxed) + 1,
        found,
        searched,
    })
}

/// Counts the places in memory that contain `flipped` with its bits flipped back.
#[cfg(target_arch = "wasm32")]
fn search(flipped: &[u8]) -> (u32, u64) {
    core::arch::wasm32::memory_grow::<0>(MORE_PAGES);
    let size = core::arch::wasm32::memory_size::<0>() * 65_536;
    let mut found = 0;
    for at in 1..size.saturating_sub(flipped.len()) {
        // SAFETY: every address below the memory's size can be read, and nothing writes meanwhile.
        let byte = |n: usize| unsafe { ((at + n) as *const u8).read_volatile() };
        if !flipped.is_empty() && flipped.iter().enumerate().all(|(n, flipped)| byte(n) == !flipped) {
            found += 1;
        }
    }
    (found, size as u64)
}

/// Natively there is no linear memory to search.
#[cfg(not(target_arch = "wasm32"))]
fn search(_: &[u8]) -> (u32, u64) {
    (0, 0)
}

fn wall_clock() -> u64 {
    nanos(
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
