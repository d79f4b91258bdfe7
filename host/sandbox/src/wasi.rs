//! The inert part of WASI: what a guest built with Rust's standard library needs in order to start, and nothing that
//! reaches outside its task.
//!
//! - no arguments, no environment, an empty stdin;
//! - clocks that are frozen at the start of the run: a sleep returns immediately, and a loop that waits for time to
//!   pass ends when its fuel is used up;
//! - random numbers from a seed of the task, so that a run can be replayed;
//! - stdout and stderr, which go to the task's bounded log: what exceeds the bound is dropped and counted, and the
//!   guest never sees an error for it.
//!
//! Files are available only with a granted directory, see [`files`](super::files). Sockets and HTTP are never linked,
//! so a plugin that imports them is refused before anything runs.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng};
use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::{cli, io as wasi_io, random};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiView};

use super::charges::{Charges, price};
use super::io::{Metered, MeteredTable};
use agenthost_core::failpoint;

/// The maximum number of random bytes of one call: enough for keys and seeds, too few for a memory bomb.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// The data of a store with the inert interfaces.
pub(super) trait InertView: WasiView + Send + 'static {
    fn clock(&mut self) -> FrozenClock<'_>;
    fn io(&mut self) -> MeteredTable<'_>;
    fn random(&mut self) -> SeededRandom<'_>;
}

/// Adds the inert interfaces.
pub(super) fn add_to_linker<T: InertView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let l = linker;
    wasi_io::error::add_to_linker::<T, Table>(l, |state| state.ctx().table)?;
    wasi_io::poll::add_to_linker::<T, Metered>(l, T::io)?;
    wasi_io::streams::add_to_linker::<T, Metered>(l, T::io)?;
    cli::environment::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::exit::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, T::cli)?;
    random::random::add_to_linker::<T, Seeded>(l, T::random)?;
    random::insecure::add_to_linker::<T, Seeded>(l, T::random)?;
    random::insecure_seed::add_to_linker::<T, Seeded>(l, T::random)?;
    monotonic_clock::add_to_linker::<T, Frozen>(l, T::clock)?;
    wall_clock::add_to_linker::<T, Frozen>(l, T::clock)?;
    Ok(())
}

/// Creates the WASI state of one task; its random numbers are in [`Random`].
pub(super) fn context(log: &Log) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    builder.stdout(log.clone()).stderr(log.clone());
    builder.build()
}

/// Random numbers that are a function of the task's seed.
pub(super) struct Random {
    secure: ChaCha20Rng,
    insecure: ChaCha20Rng,
    seed: (u64, u64),
}

impl Random {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let mut secure = ChaCha20Rng::from_seed(seed);
        let half = |bytes: Option<&[u8; 8]>| u64::from_le_bytes(*bytes.unwrap_or(&[0; 8]));
        Self {
            insecure: ChaCha20Rng::from_rng(&mut secure),
            seed: (half(seed.first_chunk()), half(seed.last_chunk())),
            secure,
        }
    }
}

/// Draws `len` random bytes.
fn bytes(random: &mut ChaCha20Rng, len: u64) -> wasmtime::Result<Vec<u8>> {
    let len = usize::try_from(len.min(MAX_RANDOM_BYTES + 1)).unwrap_or(usize::MAX);
    if len as u64 > MAX_RANDOM_BYTES {
        return Err(wasmtime::Error::msg(format!(
            "a plugin gets at most {MAX_RANDOM_BYTES} random bytes at a time"
        )));
    }
    let mut bytes = vec![0; len];
    random.fill_bytes(&mut bytes);
    Ok(bytes)
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

struct Seeded;

impl HasData for Seeded {
    type Data<'a> = SeededRandom<'a>;
}

/// Random numbers from the seed of the task, and the charges for them.
pub(super) struct SeededRandom<'a> {
    pub(super) random: &'a mut Random,
    pub(super) charges: &'a mut Charges,
}

impl SeededRandom<'_> {
    fn charged(&mut self, bytes: u64) -> &mut Random {
        self.charges.add(bytes.min(MAX_RANDOM_BYTES) * price::RANDOM_BYTE);
        self.random
    }
}

impl random::random::Host for SeededRandom<'_> {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(&mut self.charged(len).secure, len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.charged(8).secure.next_u64())
    }
}

impl random::insecure::Host for SeededRandom<'_> {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(&mut self.charged(len).insecure, len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.charged(8).insecure.next_u64())
    }
}

impl random::insecure_seed::Host for SeededRandom<'_> {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(self.charged(16).seed)
    }
}

struct Frozen;

impl HasData for Frozen {
    type Data<'a> = FrozenClock<'a>;
}

/// A clock that is frozen at `now`.
pub(super) struct FrozenClock<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) now: SystemTime,
    pub(super) charges: &'a mut Charges,
}

/// A timer of a frozen clock. It is always due, because it could otherwise never become due.
struct Due;

#[async_trait::async_trait]
impl Pollable for Due {
    async fn ready(&mut self) {}
}

impl FrozenClock<'_> {
    fn due(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        self.charges.add(price::POLLABLE);
        let due = self.table.push(Due)?;
        subscribe(self.table, due)
    }
}

impl monotonic_clock::Host for FrozenClock<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(0)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.due()
    }

    fn subscribe_duration(&mut self, _duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.due()
    }
}

impl wall_clock::Host for FrozenClock<'_> {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        failpoint!("wasi.clock");
        let now = self.now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Ok(wall_clock::Datetime {
            seconds: now.as_secs(),
            nanoseconds: now.subsec_nanos(),
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime {
            seconds: 0,
            nanoseconds: 1,
        })
    }
}

/// The log of a task's stdout and stderr, up to a bound.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<LogBuffer>>);

struct LogBuffer {
    kept: Vec<u8>,
    bound: usize,
    dropped: u64,
}

impl Log {
    pub(super) fn new(bound: usize) -> Self {
        Self(Arc::new(Mutex::new(LogBuffer {
            kept: Vec::new(),
            bound,
            dropped: 0,
        })))
    }

    /// Returns the kept text and the number of dropped bytes.
    pub(super) fn take(&self) -> (String, u64) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = std::mem::take(&mut written.kept);
        (String::from_utf8_lossy(&kept).into_owned(), written.dropped)
    }

    /// Calls `look` with the text kept so far.
    pub(super) fn with<T>(&self, look: impl FnOnce(&str) -> T) -> T {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        look(&String::from_utf8_lossy(&written.kept))
    }

    fn append(&self, bytes: &[u8]) {
        failpoint!("wasi.log");
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = written.bound.saturating_sub(written.kept.len());
        let (kept, dropped) = bytes.split_at(bytes.len().min(room));
        written.kept.extend_from_slice(kept);
        written.dropped += dropped.len() as u64;
    }
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Log {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Log {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[async_trait::async_trait]
impl Pollable for Log {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Log {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_bound_and_counts_the_rest() {
        let log = Log::new(10);
        log.append(b"12345");
        log.append(b"67890abc");
        log.append(b"more");
        assert_eq!(log.take(), ("1234567890".to_owned(), 7));
    }
}
