//! A connection that reads only so much until its client has got something of it.
//!
//! A peer may send heads before its answer (`100 Continue`), and the HTTP library passes over them for as long as it
//! finds some. Nobody who waits for the answer sees them, so they are counted where the bytes come in.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The peer sent more than it may without answering.
#[derive(Debug, thiserror::Error)]
#[error("more than {max} bytes came before the answer")]
pub(crate) struct TooMuch {
    max: usize,
}

/// Bytes that a connection may still read until something of them is handed on.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    left: Arc<AtomicUsize>,
    max: usize,
}

impl Allowance {
    pub(crate) fn new(max: usize) -> Self {
        let left = Arc::new(AtomicUsize::new(max));
        Self { left, max }
    }

    /// Something was handed on: as much may come again.
    pub(crate) fn refill(&self) {
        self.left.store(self.max, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> Result<(), TooMuch> {
        let enough = |left: usize| left.checked_sub(bytes);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough);
        taken.map(drop).map_err(|_| TooMuch { max: self.max })
    }
}

/// A connection with its allowance, which each of its answers carries as an extension.
pub(crate) struct Metered<T> {
    stream: TokioIo<T>,
    allowance: Allowance,
}

impl<T> Metered<T> {
    pub(crate) fn new(stream: T, allowance: Allowance) -> TokioIo<Self> {
        // Both ways between the two traits: hyper's own buffer does not tell how much was read.
        let stream = TokioIo::new(stream);
        TokioIo::new(Self { stream, allowance })
    }
}

impl<T: Connection> Connection for Metered<T> {
    fn connected(&self) -> Connected {
        let connected = self.stream.inner().connected();
        connected.extra(self.allowance.clone())
    }
}

impl<T> AsyncRead for Metered<T>
where
    T: hyper::rt::Read + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match self.allowance.take(buffer.filled().len() - before) {
            Ok(()) => read,
            Err(too_much) => Poll::Ready(Err(io::Error::other(too_much))),
        }
    }
}

impl<T> AsyncWrite for Metered<T>
where
    T: hyper::rt::Write + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_ends_and_is_refilled() {
        let allowance = Allowance::new(10);
        assert!(allowance.take(6).is_ok() && allowance.take(4).is_ok());
        assert!(allowance.take(1).is_err() && allowance.take(0).is_ok());
        allowance.refill();
        assert!(allowance.take(11).is_err() && allowance.take(10).is_ok());
    }
}
