//! A watcher for one process and its children: what memory they take together, and an end for them where it is too much.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::env::{Output, Running};

/// Resident memory of a process and its children together at which all of them are killed: 2.5 GB.
pub const KILLED_AT: u64 = 2_500_000_000;

/// Time between two looks.
const STEP: Duration = Duration::from_millis(10);

/// How a watched process came out.
#[derive(Debug)]
pub struct Watched {
    /// Its exit code and output.
    pub output: Output,
    /// The most resident memory of it and its children together, in bytes.
    pub peak: u64,
    /// How long it took.
    pub wall: Duration,
    /// Why it was killed, or `None` if it came to its own end.
    pub killed: Option<String>,
    /// Sockets on which it, or a child of it, listened for connections.
    pub listening: usize,
}

/// Waits for the end of a process, and kills it and its children if they take [`KILLED_AT`] or longer than `most`.
///
/// # Panics
///
/// If it cannot be killed.
pub fn watch(mut running: Running, most: Duration) -> Watched {
    let start = Instant::now();
    let mut seen = Watched {
        output: Output {
            code: 0,
            stdout: String::new(),
            stderr: String::new(),
        },
        peak: 0,
        wall: Duration::ZERO,
        killed: None,
        listening: 0,
    };
    let mut looks = 0_u32;
    while running.is_running() {
        let tree = tree(running.pid());
        let memory: Vec<_> = tree.iter().filter_map(|pid| memory(*pid)).collect();
        let now: u64 = memory.iter().map(|(resident, _)| resident).sum();
        let high = memory.iter().map(|(_, high)| *high).max().unwrap_or(0);
        seen.peak = seen.peak.max(now).max(high);
        if looks.is_multiple_of(20) {
            seen.listening = seen.listening.max(listening(&tree));
        }
        looks += 1;
        if seen.peak >= KILLED_AT {
            seen.killed = Some(format!("took {} MB of memory", seen.peak / 1_000_000));
        } else if start.elapsed() > most {
            seen.killed = Some(format!("went on after {:.1} s", most.as_secs_f64()));
        }
        if seen.killed.is_some() {
            kill(&tree);
            break;
        }
        std::thread::sleep(STEP);
    }
    seen.output = running.finish();
    seen.wall = start.elapsed();
    seen
}

/// A process and all below it.
fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let threads = std::fs::read_dir(format!("/proc/{}/task", found[at]));
        for thread in threads.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

/// The resident memory of a process now and at its highest, in bytes.
fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some((field("VmRSS:")? * 1024, field("VmHWM:")? * 1024))
}

/// The number of TCP sockets on which one of these processes listens.
fn listening(tree: &[u32]) -> usize {
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            // 0A is the state of a socket that listens.
            if fields.get(3) == Some(&"0A") {
                inodes.extend(fields.get(9).map(|inode| format!("socket:[{inode}]")));
            }
        }
    }
    let of = |pid: &u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets
            .filter(|target| inodes.contains(&*target.to_string_lossy()))
            .count()
    };
    tree.iter().map(of).sum()
}

/// Kills these processes, which are a process that was started here and what it started.
fn kill(tree: &[u32]) {
    let pids: Vec<_> = tree.iter().map(u32::to_string).collect();
    // One of them may have gone meanwhile.
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -KILL {}", pids.join(" "))])
        .output()
        .unwrap();
}
