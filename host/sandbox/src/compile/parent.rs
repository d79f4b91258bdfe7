//! The parent's side of a compiler process: starts it, waits for it within limits, and reports how it ended.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::Signal;

use super::child::{ARGUMENT, CANNOT_START, Header, INVALID, Job, VERSION};
use super::process::CompileLimits;
use super::stop::Stop;
use crate::engine::Reservation;
use crate::error::SandboxError;
use agenthost_plugin::ComponentError;

/// The maximum size of an image: the code of a plugin of the largest size, with room to spare.
const MAX_IMAGE: usize = 512 << 20;
/// The maximum number of bytes kept of the child's stderr.
const MAX_WORDS: usize = 16 << 10;
/// The maximum number of threads of the compiler. Each takes its own address space.
const MAX_THREADS: usize = 4;

/// The result of a child.
pub(super) struct Compiled {
    pub(super) image: Vec<u8>,
    pub(super) peak_memory: Option<u64>,
}

/// Compiles a plugin in a child process.
pub(super) fn compile(
    program: &Path,
    limits: CompileLimits,
    reservation: Reservation,
    bytes: &[u8],
    stop: Option<&Stop>,
) -> Result<Compiled, SandboxError> {
    let deadline = Instant::now() + limits.time;
    let job = Job {
        length: bytes.len() as u64,
        memory: limits.memory,
        cpu_seconds: limits.time.as_secs() + u64::from(limits.time.subsec_nanos() > 0),
        reservation,
        parent: rustix::process::getpid().as_raw_nonzero().get(),
    };
    let mut running = start(program, &job, bytes).map_err(|source| SandboxError::StartCompiler {
        program: program.to_owned(),
        source,
    })?;
    let gave = running.wait(deadline, stop).map_err(SandboxError::ReadCompiler)?;
    match gave {
        Gave::Result { status, out, words } => result(status, out, &words, limits),
        Gave::TimeUp => Err(SandboxError::CompileTime { limit: limits.time }),
        Gave::TooMuch => Err(SandboxError::CodeTooLarge { most: MAX_IMAGE as u64 }),
        Gave::Abandoned => Err(SandboxError::Abandoned),
    }
}

fn start(program: &Path, job: &Job, bytes: &[u8]) -> io::Result<Running> {
    // The child reads it at its own pace, and no thread needs to feed it.
    let mut input = File::from(rustix::fs::memfd_create("plugin", MemfdFlags::CLOEXEC)?);
    input.write_all(bytes)?;
    io::Seek::rewind(&mut input)?;
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(MAX_THREADS));
    let child = Command::new(program)
        .arg(ARGUMENT)
        .arg(serde_json::to_string(job)?)
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        // Each arena of glibc reserves 64 MiB of address space.
        .env("MALLOC_ARENA_MAX", "2")
        .current_dir("/")
        .stdin(Stdio::from(input))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Running(child))
}

/// A child that is killed when dropped, if it is still running.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The result of waiting for a child.
enum Gave {
    Result {
        status: ExitStatus,
        out: Vec<u8>,
        words: Vec<u8>,
    },
    TimeUp,
    TooMuch,
    Abandoned,
}

/// An event while a child runs.
enum Event {
    /// The child closed its stdout, with everything that it wrote there.
    Out(io::Result<Vec<u8>>),
    /// The child closed its stderr.
    Words(io::Result<Vec<u8>>),
    /// The load was abandoned.
    Abandoned,
}

impl Running {
    /// Reads the child's output until it has ended, its time is up, or the load is abandoned.
    fn wait(&mut self, deadline: Instant, stop: Option<&Stop>) -> io::Result<Gave> {
        let (sender, events) = mpsc::channel();
        if let Some(stop) = stop {
            let sender = sender.clone();
            stop.watch(move || {
                let _ = sender.send(Event::Abandoned);
            });
        }
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        // A thread ends when its pipe closes, at the latest when the child is killed.
        read(stdout, MAX_IMAGE, sender.clone(), Event::Out)?;
        read(stderr, MAX_WORDS, sender, Event::Words)?;
        let (mut out, mut words) = (None, None);
        while out.is_none() || words.is_none() {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Out(read)) => out = Some(read?),
                Ok(Event::Words(read)) => words = Some(read?),
                Ok(Event::Abandoned) => return Ok(Gave::Abandoned),
                Err(_) => return Ok(Gave::TimeUp),
            }
            if out.as_ref().is_some_and(|out| out.len() > MAX_IMAGE) {
                return Ok(Gave::TooMuch);
            }
        }
        // The child has closed both pipes and is about to exit.
        loop {
            if let Some(status) = self.0.try_wait()? {
                let (out, words) = (out.unwrap_or_default(), words.unwrap_or_default());
                return Ok(Gave::Result { status, out, words });
            }
            if Instant::now() >= deadline {
                return Ok(Gave::TimeUp);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads a pipe to its end on its own thread, and keeps at most one byte more than `most`. The rest of stderr is read
/// and dropped, so that the child does not block.
fn read(
    pipe: Option<impl Read + Send + 'static>,
    most: usize,
    to: mpsc::Sender<Event>,
    event: fn(io::Result<Vec<u8>>) -> Event,
) -> io::Result<()> {
    let mut pipe = pipe.ok_or_else(|| io::Error::other("the child has no pipe"))?;
    let read = move || {
        let mut bytes = Vec::new();
        let kept = (&mut pipe).take(most as u64 + 1).read_to_end(&mut bytes);
        if kept.is_ok() && most == MAX_WORDS {
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        let _ = to.send(event(kept.map(|_| bytes)));
    };
    std::thread::Builder::new()
        .name("compiler output".to_owned())
        .spawn(read)?;
    Ok(())
}

/// Returns the result of a child that has ended, or why it failed.
fn result(status: ExitStatus, mut out: Vec<u8>, words: &[u8], limits: CompileLimits) -> Result<Compiled, SandboxError> {
    let words = String::from_utf8_lossy(words);
    let first = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let is = |signal: Signal| status.signal() == Some(signal.as_raw());
    if status.success() {
        let line = out.iter().position(|byte| *byte == b'\n').unwrap_or(out.len());
        let header: Option<Header> = out.get(..line).and_then(|line| serde_json::from_slice(line).ok());
        let header = header.filter(|header| header.length == out.len().saturating_sub(line + 1) as u64);
        let Some(header) = header else {
            return Err(SandboxError::NotACompiler);
        };
        if header.version != VERSION {
            return Err(SandboxError::OtherCompiler {
                found: header.version,
                own: VERSION,
            });
        }
        out.drain(..=line);
        return Ok(Compiled {
            image: out,
            peak_memory: header.peak_memory,
        });
    }
    if status.code() == Some(i32::from(INVALID)) {
        return Err(ComponentError::broken(first).into());
    }
    // The messages of Rust's allocator, the system's thread library and the compiler when memory is refused.
    let refused = [
        "memory allocation of",
        "Cannot allocate memory",
        "failed to allocate",
        "Resource temporarily unavailable",
        "WouldBlock",
    ];
    if refused.iter().any(|says| words.contains(says)) {
        return Err(SandboxError::CompileMemory { limit: limits.memory });
    }
    if is(Signal::XCPU) {
        return Err(SandboxError::CompileTime { limit: limits.time });
    }
    if status.code() == Some(i32::from(CANNOT_START)) {
        return Err(SandboxError::CompilerSetup {
            problem: first.to_owned(),
        });
    }
    let how = match status.signal() {
        Some(signal) if is(Signal::KILL) => {
            format!("it was killed (signal {signal}), perhaps for want of memory on this machine")
        }
        Some(signal) => format!("it crashed (signal {signal}) {first}"),
        None => format!("it failed: {first}"),
    };
    Err(SandboxError::CompilerFailed {
        problem: how.trim_end().to_owned(),
    })
}
