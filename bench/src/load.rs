//! The load generator: clients that send, wait for the answer and send again, each on a connection of its own.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{message::Messages, usage};

/// The clients' view of a load.
pub(crate) struct Load {
    /// Answered requests a second.
    pub(crate) rate: f64,
    /// The slowest answer but for one in a hundred, in milliseconds.
    pub(crate) p99_ms: f64,
    /// The share of one processor that the clients used.
    pub(crate) client_share: f64,
    /// Answered requests.
    pub(crate) answers: usize,
}

/// Lets `clients` send what `request` writes for as long as `span`. Every answer must have this status and hold this
/// text.
pub(crate) async fn drive(
    address: SocketAddr,
    clients: usize,
    span: Duration,
    expected: (u16, &str),
    request: impl Fn(&mut Vec<u8>),
) -> Result<Load> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Messages::of(TcpStream::connect(address).await?)?);
    }
    let (began, cpu_before) = (Instant::now(), usage::own_cpu()?);
    let mut running: FuturesUnordered<_> = connections
        .into_iter()
        .map(|connection| client(connection, began + span, expected, &request))
        .collect();
    let mut latencies = Vec::new();
    while let Some(seen) = running.next().await {
        latencies.extend(seen?);
    }
    let elapsed = began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let p99 = latencies
        .get(latencies.len() * 99 / 100)
        .context("no request was answered")?;
    Ok(Load {
        rate: latencies.len() as f64 / elapsed,
        p99_ms: p99.as_secs_f64() * 1e3,
        client_share: (usage::own_cpu()? - cpu_before).as_secs_f64() / elapsed,
        answers: latencies.len(),
    })
}

async fn client(
    mut connection: Messages,
    deadline: Instant,
    (status, text): (u16, &str),
    request: impl Fn(&mut Vec<u8>),
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut bytes = Vec::new();
    while Instant::now() < deadline {
        bytes.clear();
        request(&mut bytes);
        let sent = Instant::now();
        connection.stream.write_all(&bytes).await?;
        let answer = connection
            .next()
            .await?
            .context("the connection was closed")?;
        latencies.push(sent.elapsed());
        let body = std::str::from_utf8(answer.body)?;
        ensure!(
            answer.status()? == status && body.contains(text),
            "unexpected answer: {}{body}",
            answer.head
        );
    }
    Ok(latencies)
}

/// Writes a GET request.
pub(crate) fn get(bytes: &mut Vec<u8>, path: &str) {
    bytes.extend_from_slice(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes());
}

/// Writes a POST request with a JSON body and further header lines, each with its line end.
pub(crate) fn post(bytes: &mut Vec<u8>, path: &str, headers: &str, body: &str) {
    let length = body.len();
    bytes.extend_from_slice(
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: \
             {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
}
