//! Standard error of one call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Standard error of one call: keeps the beginning and swallows the rest. The runtime's own pipe would fail a write
/// that does not fit, and a guest that only talks too much would be ended by its own standard library.
#[derive(Clone)]
pub(crate) struct Stderr {
    kept: Arc<Mutex<Kept>>,
    max_bytes: usize,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    dropped: usize,
}

/// Bytes that are taken at once.
const CHUNK: usize = 4_096;

impl Stderr {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            kept: Arc::default(),
            max_bytes,
        }
    }

    /// Returns the kept text and the number of dropped bytes.
    pub(crate) fn text(&self) -> (String, usize) {
        let kept = self.kept();
        (
            String::from_utf8_lossy(&kept.bytes).into_owned(),
            kept.dropped,
        )
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IsTerminal for Stderr {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stderr {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // The contract is of WASI 0.2, which asks for `p2_stream` alone.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Stderr {
    // Never waits: what does not fit is dropped, so there is always room.
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Stderr {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        let mut kept = self.kept();
        let taken = bytes
            .len()
            .min(self.max_bytes.saturating_sub(kept.bytes.len()));
        kept.bytes.extend_from_slice(&bytes[..taken]);
        kept.dropped += bytes.len() - taken;
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        // Not what is left: 0 means "wait", and a guest would wait for ever for room that does not come.
        Ok(CHUNK)
    }
}
