//! Servers that animals are made of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{self, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::{Animal, Fate, animal};
use crate::{RawServer, read_request};

/// A server that answers with these bytes and closes.
pub(super) async fn simple(name: &'static str, fate: Fate, answer: Arc<str>) -> Result<Animal> {
    let server = RawServer::start("127.0.0.1", move |mut stream| {
        let answer = answer.clone();
        async move {
            read_request(&mut stream).await?;
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            until_left(&mut stream).await
        }
    })
    .await?;
    Ok(animal(
        name,
        fate,
        format!("http://{}/", server.address()),
        Some(server),
    ))
}

/// The endless rest of an answer.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Nothing,
    /// One byte a second.
    Drip,
    /// As much as the connection takes.
    Flood,
    /// The same, with these words.
    Repeat(&'static str),
}

pub(super) async fn answering(
    name: &'static str,
    fate: Fate,
    head: &'static str,
    then: Then,
) -> Result<Animal> {
    let was_left = Arc::new(AtomicBool::new(false));
    let left = was_left.clone();
    let server = RawServer::start("127.0.0.1", move |mut stream| {
        let left = left.clone();
        async move {
            read_request(&mut stream).await?;
            stream.write_all(head.as_bytes()).await?;
            // It ends when nobody reads any more.
            let _ = go_on(&mut stream, then).await;
            left.store(true, Ordering::SeqCst);
            Ok(())
        }
    })
    .await?;
    let animal = animal(
        name,
        fate,
        format!("http://{}/", server.address()),
        Some(server),
    );
    Ok(Animal {
        was_left: Some(was_left),
        ..animal
    })
}

async fn go_on(stream: &mut TcpStream, then: Then) -> io::Result<()> {
    let flood = [0; 64 * 1024];
    loop {
        match then {
            Then::Nothing => return until_left(stream).await,
            Then::Drip => {
                stream.write_all(b"x").await?;
                #[allow(clippy::disallowed_methods, reason = "slowness is what it is for")]
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Then::Flood => stream.write_all(&flood).await?,
            Then::Repeat(words) => stream.write_all(words.repeat(1_000).as_bytes()).await?,
        }
    }
}

async fn until_left(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).await.map(drop)
}

pub(super) async fn reset(fate: Fate) -> Result<Animal> {
    let server = RawServer::start("127.0.0.1", |mut stream| async move {
        read_request(&mut stream).await?;
        // Closing sends a reset instead of an end.
        stream.set_zero_linger()
    })
    .await?;
    Ok(animal(
        "reset",
        fate,
        format!("http://{}/", server.address()),
        Some(server),
    ))
}

/// A port where nobody listens.
pub(super) async fn nobody(fate: Fate) -> Result<Animal> {
    let server = RawServer::start("127.0.0.1", |_| async { Ok(()) }).await?;
    Ok(animal(
        "nobody",
        fate,
        format!("http://{}/", server.address()),
        None,
    ))
}

pub(super) async fn tls(name: &'static str, fate: Fate, acceptor: TlsAcceptor) -> Result<Animal> {
    let server = RawServer::start("127.0.0.1", move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            read_request(&mut stream).await?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await?;
            stream.shutdown().await
        }
    })
    .await?;
    let port = server.address().port();
    Ok(animal(
        name,
        fate,
        format!("https://localhost:{port}/"),
        Some(server),
    ))
}
