//! Serving HTTP over TCP: HTTP/1 and HTTP/2 (prior knowledge) on one port, with a limit on everything that a client can
//! make slow or many.
//!
//! | what a client does | bound |
//! |---|---|
//! | says nothing, or half a request's head | closed after [`ServerSettings::request_timeout`] |
//! | sends a body too slowly | 408 after as long (`body.rs`) |
//! | keeps a connection without a request | closed after 2.5 times as long |
//! | names no host, two, or none of the form of a host | 400, and closed (`host.rs`) |
//! | does not take its answer | closed after as long as that, pings of HTTP/2 or not |
//! | has half of the places, while less than a quarter is free | its next ones as below (`places.rs`) |
//! | opens more than [`ServerSettings::max_connections`] | the longest idle ones are closed for the new (`places.rs`) |
//! | has all of them at work | 32 more are answered 503, but for `/healthz` and `/readyz`; further ones are closed at once |
//!
//! Once `stop` is cancelled nothing more is accepted, what has no request in work is closed at once, and what has is
//! closed behind its answer.

mod activity;
mod connection;
mod exchange;
mod host;
mod places;
mod socket;

use std::{
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wharf_app::App;

use self::{
    connection::Connections,
    places::{Admission, Places},
};

/// The bounds of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Time that a client has to send a request's head, from its first byte or, on a new connection, from the start.
    pub request_timeout: Duration,
    /// Connections at a time, without the 32 that are kept for health checks.
    pub max_connections: usize,
}

impl ServerSettings {
    /// Time that a connection may be without a request, and an answer on its way. With the default of 30 s it is 75 s:
    /// longer than the 60 s after which load balancers close theirs, so that they never send into a closed one.
    fn idle_timeout(&self) -> Duration {
        self.request_timeout * 5 / 2
    }
}

/// Pause after an `accept` that failed for want of descriptors or memory: without one the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Least time between two lines in the log about such failures.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Serves until `stop` is cancelled and the last request in work is answered. With an [`App`], its metrics tell of the
/// connections.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ServerSettings,
    app: Option<App>,
    stop: CancellationToken,
) {
    let places = Places::new(settings.max_connections, app);
    let connections = Arc::new(Connections::new(router, settings, stop.clone()));
    let tasks = TaskTracker::new();
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            // The stop first: in a flood of clients `accept` is always ready.
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                begin(stream, peer.ip(), &places, &connections, &tasks);
            }
            // The client was quicker to leave than we to look.
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                // Before the pause: the descriptors that idle clients hold are free when it is over.
                places.evict_some();
                if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                    tracing::warn!(%error, "no connection can be accepted; trying again");
                    warned = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // New clients are refused by the system from here on, and go elsewhere.
    drop(listener);
    tasks.close();
    // Without a limit of its own: a host's SHUTDOWN_GRACE ends it.
    tasks.wait().await;
}

fn begin(
    stream: TcpStream,
    client: IpAddr,
    places: &Arc<Places>,
    connections: &Arc<Connections>,
    tasks: &TaskTracker,
) {
    // Answers are small: none waits for more to be sent with it.
    let _ = stream.set_nodelay(true);
    if let Admission::Admitted(place) = places.admit(client) {
        let connections = connections.clone();
        tasks.spawn(async move { connections.serve(stream, place).await });
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
