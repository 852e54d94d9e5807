//! Just enough HTTP to ask a host on loopback. The host itself is tested with a real client elsewhere.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// Time limit of one answer.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Sends one request (HTTP/1.0, so that the answer ends with the connection) and returns status and JSON body.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value)> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    connection.set_read_timeout(Some(TIME_LIMIT))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    write!(
        connection,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .with_context(|| format!("{method} {path}: no answer"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("{method} {path}: not HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("{method} {path}: no status in the answer"))?;
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}
