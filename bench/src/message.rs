//! As much of HTTP/1.1 as the load generator and the receiver need: messages with a length.

use anyhow::{Context, Result, ensure};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// A connection that messages are read from, one after the other.
pub(crate) struct Messages {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// The beginning of the next message in the buffer.
    begin: usize,
}

/// One message: its head, the empty line included, and its body.
pub(crate) struct Message<'a> {
    pub(crate) head: &'a str,
    pub(crate) body: &'a [u8],
}

impl Messages {
    pub(crate) fn of(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(8 * 1024),
            begin: 0,
        })
    }

    /// The next message; `None` if the other side has closed the connection in between.
    pub(crate) async fn next(&mut self) -> Result<Option<Message<'_>>> {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        let (head, end) = loop {
            if let Some(lengths) = lengths(&self.buffer)? {
                break lengths;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                ensure!(
                    self.buffer.is_empty(),
                    "the connection ended within a message"
                );
                return Ok(None);
            }
        };
        self.begin = end;
        Ok(Some(Message {
            head: std::str::from_utf8(&self.buffer[..head])?,
            body: &self.buffer[head..end],
        }))
    }
}

impl Message<'_> {
    /// The status of an answer.
    pub(crate) fn status(&self) -> Result<u16> {
        self.head
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .context("an answer without a status")
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

/// The length of the head and of the whole message, if it is all there.
fn lengths(buffer: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(head) = buffer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
    else {
        return Ok(None);
    };
    let length = header(std::str::from_utf8(&buffer[..head])?, "content-length");
    let end = head
        + length
            .context("a message without a length")?
            .parse::<usize>()?;
    Ok((buffer.len() >= end).then_some((head, end)))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(this, value)| this.eq_ignore_ascii_case(name).then(|| value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_its_length_says() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP";
        assert_eq!(lengths(text).expect("lengths"), Some((38, 41)));
        assert_eq!(lengths(&text[..40]).expect("lengths"), None);
        assert_eq!(lengths(&text[..20]).expect("lengths"), None);
        assert!(lengths(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
