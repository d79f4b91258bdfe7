//! The child process: limits itself, reads a plugin, and writes native code.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{BorrowedFd, RawFd};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

use crate::engine::{Reservation, compiler};

/// The argument that makes a program a compiler.
pub(super) const ARGUMENT: &str = "__compile";
/// The version of the program, without which the parent accepts no code.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The exit code for an invalid plugin; the reason is on stderr.
pub(super) const INVALID: u8 = 65;
/// The exit code of a child that could not start.
pub(super) const CANNOT_START: u8 = 71;

/// The request of the parent, passed as the second argument.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    /// The number of bytes of the plugin, which is on stdin.
    pub(super) length: u64,
    /// Bytes of address space.
    pub(super) memory: u64,
    /// Seconds of computing time.
    pub(super) cpu_seconds: u64,
    pub(super) reservation: Reservation,
    /// The id of the parent process.
    pub(super) parent: i32,
}

/// The header that the child writes before the image, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// The version of the program; empty for one that does not report it.
    #[serde(default)]
    pub(super) version: String,
    /// The length of the image.
    pub(super) length: u64,
    /// The peak memory in bytes; `None` if the system does not report it.
    pub(super) peak_memory: Option<u64>,
}

/// Compiles and returns the exit code if this process was started as a compiler; otherwise returns `None`.
///
/// A program that is itself the program of [`Compile::Child`](super::Compile::Child) calls this first in `main`, before
/// it starts any thread.
///
/// ```
/// // At the top of `main`:
/// if let Some(code) = agenthost_sandbox::compile_and_exit() {
///     std::process::exit(i32::from(code));
/// }
/// ```
pub fn compile_and_exit() -> Option<u8> {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != ARGUMENT) {
        return None;
    }
    let job = args.next().and_then(|job| job.into_string().ok());
    let ended = job
        .ok_or_else(|| io::Error::other("no job was given"))
        .and_then(|job| serde_json::from_str::<Job>(&job).map_err(io::Error::other))
        .and_then(|job| work(&job));
    Some(ended.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "{error}");
        CANNOT_START
    }))
}

fn work(job: &Job) -> io::Result<u8> {
    let mut status = limit(job)?;
    let mut plugin = Vec::new();
    io::stdin().lock().take(job.length).read_to_end(&mut plugin)?;
    if plugin.len() as u64 != job.length {
        return Err(io::Error::other("the plugin was cut off"));
    }
    let image = compiler(job.reservation)
        .map_err(io::Error::other)?
        .precompile_component(&plugin);
    let image = match image {
        Ok(image) => image,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", error.root_cause());
            return Ok(INVALID);
        }
    };
    let header = Header {
        version: VERSION.to_owned(),
        length: image.len() as u64,
        peak_memory: peak_memory(&mut status),
    };
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &header)?;
    stdout.write_all(b"\n")?;
    stdout.write_all(&image)?;
    stdout.flush()?;
    Ok(0)
}

/// Ties this process to its parent and applies its limits, before it has read anything. Returns its status file,
/// because no other file can be opened from here on.
fn limit(job: &Job) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that ended before that call no longer sends the signal.
    if rustix::process::getppid().map(Pid::as_raw_nonzero) != std::num::NonZero::new(job.parent) {
        return Err(io::Error::other("the process that asked for this has ended"));
    }
    close_inherited();
    let status = File::open("/proc/self/status")?;
    let set = |resource, most: u64, hard: u64| {
        rustix::process::setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(hard),
            },
        )
    };
    set(Resource::Core, 0, 0)?;
    set(Resource::As, job.memory, job.memory)?;
    set(Resource::Cpu, job.cpu_seconds, job.cpu_seconds.saturating_add(1))?;
    // 0, 1, 2 and the status file take all descriptors: no other file, pipe or socket can be opened.
    set(Resource::Nofile, 4, 4)?;
    Ok(status)
}

/// Closes the descriptors that the parent inherited without close-on-exec from the program that started it.
fn close_inherited() {
    let Ok(dir) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = dir
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        #[expect(unsafe_code, reason = "descriptors that this process inherited have no owner in it")]
        // SAFETY: this runs first in a process with one thread, which has opened nothing but the directory above. That
        // is closed by now, and `fcntl_getfd` fails for its descriptor.
        unsafe {
            if rustix::io::fcntl_getfd(BorrowedFd::borrow_raw(fd)).is_ok() {
                rustix::io::close(fd);
            }
        }
    }
}

/// Returns the peak memory of this process.
fn peak_memory(status: &mut File) -> Option<u64> {
    let mut text = String::new();
    status.rewind().ok()?;
    status.read_to_string(&mut text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
