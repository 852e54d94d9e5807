//! A wire between a host and a server that a test can stall or cut.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// Bytes pass.
    Open,
    /// Bytes wait, connections stay.
    Stalled,
    /// Connections break, new ones too.
    Cut,
}

/// A TCP proxy on loopback. It ends with its value.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    wire: Arc<watch::Sender<Wire>>,
    server: AbortHandle,
}

impl Proxy {
    /// A wire to the server that this URL names (`redis://` or `postgres://`, with host and port).
    ///
    /// # Errors
    /// If the URL names none or no port is free.
    pub async fn to(url: &str) -> Result<Self> {
        let mut parsed = reqwest::Url::parse(url)?;
        let host = parsed.host_str().context("a host in the URL")?.to_owned();
        let target = (host, parsed.port().context("a port in the URL")?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let refused = "the URL takes no other host or port";
        parsed.set_host(Some("127.0.0.1")).context(refused)?;
        parsed
            .set_port(Some(listener.local_addr()?.port()))
            .ok()
            .context(refused)?;
        let wire = Arc::new(watch::Sender::new(Wire::Open));
        let server = tokio::spawn(serve(listener, target, wire.clone())).abort_handle();
        Ok(Self {
            url: parsed.into(),
            wire,
            server,
        })
    }

    /// The server's URL by way of this wire.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Bytes pass, those that waited first.
    pub fn open(&self) {
        self.wire.send_replace(Wire::Open);
    }

    /// Bytes wait in both directions; nobody is told.
    pub fn stall(&self) {
        self.wire.send_replace(Wire::Stalled);
    }

    /// Breaks every connection, and each new one, until it is opened again.
    pub fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
        self.cut();
    }
}

async fn serve(listener: TcpListener, target: (String, u16), wire: Arc<watch::Sender<Wire>>) {
    while let Ok((client, _)) = listener.accept().await {
        if *wire.borrow() == Wire::Cut {
            continue;
        }
        let (target, wire) = (target.clone(), wire.subscribe());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else {
                return;
            };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            // When one direction ends, both do.
            tokio::select! {
                () = pump(from_client, to_server, wire.clone()) => {}
                () = pump(from_server, to_client, wire) => {}
            }
        });
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut wire: watch::Receiver<Wire>,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            _ = until(&mut wire, |wire| wire == Wire::Cut) => 0,
        };
        if read == 0 || until(&mut wire, |wire| wire != Wire::Stalled).await == Wire::Cut {
            return;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

async fn until(wire: &mut watch::Receiver<Wire>, condition: impl Fn(Wire) -> bool) -> Wire {
    wire.wait_for(|wire| condition(*wire))
        .await
        .map_or(Wire::Cut, |wire| *wire)
}
