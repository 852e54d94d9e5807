//! A server below HTTP, for answers that no HTTP library would give.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// A TCP server on loopback that does with each connection what a function says, and counts them. It ends when it is
/// dropped; connections that it is still busy with go on until their clients leave.
#[derive(Debug)]
pub struct RawServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    server: AbortHandle,
}

impl RawServer {
    /// Starts a server on a free port of this address. What its function answers is of no interest: clients that leave
    /// early are what it is for.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub async fn start<F>(
        host: &str,
        behave: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::start_at((host.parse::<IpAddr>()?, 0).into(), behave).await
    }

    /// The same at this address and port.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub async fn start_at<F>(
        address: SocketAddr,
        behave: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(behave(stream));
            }
        });
        Ok(Self {
            address,
            connections,
            server: server.abort_handle(),
        })
    }

    /// The address that it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Reads one HTTP/1.1 request with a `content-length` to its end.
///
/// # Errors
/// If the client leaves before.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        let head = request.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if request.len() >= head + 4 + length.unwrap_or(0) {
                return Ok(request);
            }
        }
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
