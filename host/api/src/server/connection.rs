//! One connection: served by hyper, kept to its limits here.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use wharf_app::ConnectionClosed;

use super::{
    ServerSettings,
    activity::Overdue,
    exchange::Exchanges,
    places::{Class, Place},
    socket::Socket,
};

/// The most that a request's head may hold, in bytes; also what a connection's buffers may grow to.
// Memory is paid for each connection: `MAX_CONNECTIONS` reckons with some 100 KiB of buffers for one.
const MAX_HEAD: usize = 64 * 1024;
/// Requests at a time on one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// A client of HTTP/2 that does not answer a ping, sent so often, for as long is gone.
const PING: Duration = Duration::from_secs(20);
/// Interval at which a closing connection is looked at.
const CLOSING_TICK: Duration = Duration::from_millis(50);

/// The parts that all connections of a server share.
pub(super) struct Connections {
    http: Builder<TokioExecutor>,
    router: Router,
    settings: ServerSettings,
    stop: CancellationToken,
}

impl Connections {
    pub(super) fn new(router: Router, settings: ServerSettings, stop: CancellationToken) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        // The time that a head may take is kept below, for both versions alike.
        http.http1()
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD);
        http.http2()
            // Pings need a timer: hyper panics where it has none.
            .timer(TokioTimer::new())
            // A client whose machine is gone sends nothing at all; without pings it would keep its place.
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32);
        Self {
            http,
            router,
            settings,
            stop,
        }
    }

    /// Serves a connection until it ends, a limit ends it, or the server stops.
    pub(super) async fn serve(&self, stream: TcpStream, place: Place) {
        let activity = Arc::clone(&place.activity);
        let io = TokioIo::new(Socket::new(stream, activity.clone()));
        let exchanges = Exchanges {
            router: self.router.clone(),
            activity: activity.clone(),
            class: place.class,
            client: place.client,
        };
        let mut connection = pin!(self.http.serve_connection(io, exchanges));
        let settings = self.settings_of(place.class);
        let mut is_closing = false;
        loop {
            let next = match activity.judge(&settings, Instant::now()) {
                // Also while closing: who does not take an answer must not hold up a shutdown.
                Err(Overdue::Slow) => return place.tell(ConnectionClosed::Slow),
                // From here on `may_close` decides, and looks often: a shutdown waits for it.
                _ if is_closing => Instant::now() + CLOSING_TICK,
                Err(Overdue::Silent) => return place.tell(ConnectionClosed::Silent),
                // A client that is about to ask again is told first, where the protocol has a word for it.
                Err(Overdue::Idle) => {
                    place.tell(ConnectionClosed::Idle);
                    connection.as_mut().graceful_shutdown();
                    is_closing = true;
                    continue;
                }
                Ok(deadline) => self.next_look(deadline),
            };
            tokio::select! {
                // An error is the client's, which knows of it or is gone.
                _ = connection.as_mut() => return,
                // Once cancelled it is always ready: without the condition the loop would spin.
                () = self.is_to_close(&place), if !is_closing => {
                    connection.as_mut().graceful_shutdown();
                    is_closing = true;
                }
                () = tokio::time::sleep_until(next.into()) => {
                    // hyper ends what is idle by itself, but waits for ever for a request that stands half sent.
                    if is_closing && activity.may_close(Instant::now()) {
                        return;
                    }
                }
            }
        }
    }

    async fn is_to_close(&self, place: &Place) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = place.evicted.cancelled() => {}
        }
    }

    /// The bounds of a class: a place for health checks is not there for waiting.
    fn settings_of(&self, class: Class) -> ServerSettings {
        // There are 32 such places. Held for 30 s each, a handful of strangers would keep supervisors out.
        const PROBE: Duration = Duration::from_secs(2);
        let full = self.settings.request_timeout;
        ServerSettings {
            request_timeout: match class {
                Class::Full => full,
                Class::Probes => full.min(PROBE),
            },
            ..self.settings
        }
    }

    /// The time of the next look. Nothing that happens on the connection wakes anybody here.
    fn next_look(&self, deadline: Option<Instant>) -> Instant {
        // A quarter: a limit is overshot by no more than that, and an idle connection costs few wake-ups.
        let look = Instant::now() + self.settings.request_timeout / 4;
        deadline.map_or(look, |deadline| deadline.min(look))
    }
}
