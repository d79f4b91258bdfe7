//! The signals that end a command early: Ctrl-C, a termination, and a terminal that goes away.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::exit;
use super::terminal::moving;
use agenthost::Cancellation;

/// Waits for the next Ctrl-C, SIGTERM or SIGHUP. From the first call on, none of them ends the process by itself. SIGTERM
/// and SIGHUP have no effect if the process was started with them ignored, as `nohup` does.
pub(super) async fn interrupted() {
    tokio::select! {
        () = received(signal(SignalKind::interrupt())) => {}
        () = received(unless_ignored(SignalKind::terminate())) => {}
        () = received(unless_ignored(SignalKind::hangup())) => {}
    }
}

/// Returns a token that the first [signal](interrupted) cancels. The second one exits at once.
pub(super) fn stop_on_signal() -> Cancellation {
    let stop = Cancellation::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        interrupted().await;
        cancel.cancel();
        interrupted().await;
        let _ = moving().clear();
        // The reader of the results may have stopped reading, so that the loop hangs in a write.
        std::process::exit(i32::from(exit::INTERRUPTED));
    });
    stop
}

async fn received(signal: std::io::Result<Signal>) {
    match signal {
        Ok(mut signal) => {
            signal.recv().await;
        }
        // The signal keeps its own effect.
        Err(_) => std::future::pending().await,
    }
}

fn unless_ignored(kind: SignalKind) -> std::io::Result<Signal> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    match ignores(&status, kind.as_raw_value()) {
        false => signal(kind),
        true => Err(std::io::ErrorKind::Unsupported.into()),
    }
}

/// Returns whether a process with this text in its `/proc/PID/status` ignores a signal.
fn ignores(status: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_nohup_ignores_stays_ignored() {
        let status = |mask: &str| format!("Name:\tagenthost\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        let (hangup, term) = (1, 15);
        let nohup = status("0000000000001001");
        assert!(ignores(&nohup, hangup) && !ignores(&nohup, term));
        assert!(!ignores(&status("0000000000001000"), hangup));
        assert!(ignores("Name:\tagenthost\n", hangup), "it is not known");
    }
}
