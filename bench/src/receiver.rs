//! A receiver of webhooks that costs next to nothing: it looks at the id and the signature's presence, and answers 200.

use std::{cell::RefCell, collections::HashSet, net::SocketAddr, rc::Rc};

use anyhow::{Context, Result};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet},
};

use crate::message::Messages;

/// The requests that came.
#[derive(Default)]
pub(crate) struct Received {
    /// The events' ids.
    pub(crate) ids: HashSet<String>,
    /// Requests in all; more than ids if some came twice.
    pub(crate) requests: usize,
    /// Connections that were taken.
    pub(crate) connections: usize,
}

/// A receiver. It works while its [`LocalSet`] is driven.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) received: Rc<RefCell<Received>>,
    pub(crate) tasks: LocalSet,
}

impl Receiver {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, received) = (listener.local_addr()?, Rc::<RefCell<Received>>::default());
        let tasks = LocalSet::new();
        tasks.spawn_local(accept(listener, Rc::clone(&received)));
        Ok(Self {
            address,
            received,
            tasks,
        })
    }
}

async fn accept(listener: TcpListener, received: Rc<RefCell<Received>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        received.borrow_mut().connections += 1;
        let received = Rc::clone(&received);
        connections.spawn_local(async move {
            if let Err(error) = answer(stream, &received).await {
                eprintln!("    receiver: {error:#}");
            }
        });
    }
}

async fn answer(stream: TcpStream, received: &RefCell<Received>) -> Result<()> {
    let mut messages = Messages::of(stream)?;
    while let Some(message) = messages.next().await? {
        message
            .header("webhook-signature")
            .context("a webhook without a signature")?;
        let id = message
            .header("x-event-id")
            .context("a webhook without an id")?
            .to_owned();
        {
            let mut received = received.borrow_mut();
            received.requests += 1;
            received.ids.insert(id);
        }
        messages
            .stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await?;
    }
    Ok(())
}
