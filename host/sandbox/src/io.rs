//! The streams and pollables of WASI, with a price on each call.
//!
//! `wasmtime-wasi` implements the calls. This module adds their prices, and a limit on the length of a poll list,
//! because such a list may name one handle a million times.

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};

use super::charges::{Charges, price};

/// The maximum number of live handles of a guest: streams and pollables of its standard library, and one per model call
/// in flight.
pub(super) const MAX_HANDLES: usize = 2_000;

/// The handles of a task, and the charges for their use.
pub(super) struct MeteredTable<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) charges: &'a mut Charges,
}

pub(super) struct Metered;

impl HasData for Metered {
    type Data<'a> = MeteredTable<'a>;
}

impl MeteredTable<'_> {
    fn charged<T>(&mut self, bytes: u64, then: impl FnOnce(&mut ResourceTable) -> T) -> T {
        self.charges.bytes(bytes);
        then(self.table)
    }

    /// Charges for the bytes that were read.
    fn read(&mut self, read: StreamResult<Vec<u8>>) -> StreamResult<Vec<u8>> {
        self.charges.bytes(read.as_ref().map_or(0, |bytes| bytes.len() as u64));
        read
    }

    /// Charges for the bytes that were moved.
    fn moved(&mut self, moved: StreamResult<u64>) -> StreamResult<u64> {
        self.charges.bytes(*moved.as_ref().unwrap_or(&0));
        moved
    }
}

impl poll::Host for MeteredTable<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let handles = pollables.len();
        if handles > MAX_HANDLES {
            return Err(wasmtime::Error::msg(format!(
                "a poll list of {handles} handles is longer than the {MAX_HANDLES} that a task may have"
            )));
        }
        self.charges.add(price::POLLABLE.saturating_mul(handles as u64));
        self.table.poll(pollables).await
    }
}

impl poll::HostPollable for MeteredTable<'_> {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.charges.add(price::POLLABLE);
        poll::HostPollable::block(self.table, pollable).await
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.charges.add(price::POLLABLE);
        poll::HostPollable::ready(self.table, pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.charges.add(price::POLLABLE);
        poll::HostPollable::drop(self.table, pollable)
    }
}

impl streams::Host for MeteredTable<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        self.charged(0, |table| table.convert_stream_error(error))
    }
}

impl streams::HostInputStream for MeteredTable<'_> {
    async fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        self.charges.bytes(0);
        streams::HostInputStream::drop(self.table, stream).await
    }

    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        let read = streams::HostInputStream::read(self.table, stream, len);
        self.read(read)
    }

    async fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        let read = self.table.blocking_read(stream, len).await;
        self.read(read)
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        let moved = self.table.skip(stream, len);
        self.moved(moved)
    }

    async fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        let moved = self.table.blocking_skip(stream, len).await;
        self.moved(moved)
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        self.charges.add(price::POLLABLE);
        streams::HostInputStream::subscribe(self.table, stream)
    }
}

impl streams::HostOutputStream for MeteredTable<'_> {
    async fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        self.charges.bytes(0);
        streams::HostOutputStream::drop(self.table, stream).await
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        self.charged(0, |table| table.check_write(stream))
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        self.charged(bytes.len() as u64, |table| table.write(stream, bytes))
    }

    async fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        self.charges.bytes(bytes.len() as u64);
        self.table.blocking_write_and_flush(stream, bytes).await
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.charged(0, |table| table.flush(stream))
    }

    async fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.charges.bytes(0);
        self.table.blocking_flush(stream).await
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        self.charges.add(price::POLLABLE);
        streams::HostOutputStream::subscribe(self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        // A stream returns an error, and writes nothing, if `len` is more than it takes at a time.
        self.charged(len.min(u64::from(u32::MAX)), |table| table.write_zeroes(stream, len))
    }

    async fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        self.charges.bytes(len.min(u64::from(u32::MAX)));
        self.table.blocking_write_zeroes_and_flush(stream, len).await
    }

    fn splice(&mut self, to: Resource<DynOutputStream>, from: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        let moved = self.table.splice(to, from, len);
        self.moved(moved)
    }

    async fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        let moved = self.table.blocking_splice(to, from, len).await;
        self.moved(moved)
    }
}
