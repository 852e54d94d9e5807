//! The clients: one for each kind of stranger, and one for the operator's own host.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use reqwest::{Client, ClientBuilder};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};

use crate::{
    Guard, GuardedClient, Resolver, SystemResolver,
    metered::{Allowance, Metered},
    resolver::guarded_resolver,
};

/// The time that a connection to a receiver is kept for the next webhook. Every receiver may hold a descriptor for so
/// long.
const MAX_IDLE: Duration = Duration::from_secs(10);
/// As long as reqwest keeps them.
const MAX_PLUGIN_IDLE: Duration = Duration::from_secs(90);
/// Bytes of a receiver's answer that are read ahead: its head, and as much of its body as anybody looks at.
const WEBHOOK_READ_AHEAD: u32 = 64 * 1024;
/// The same of a marketplace's, whose bodies are large and come from far away.
const PLUGIN_READ_AHEAD: u32 = 512 * 1024;
/// The peer is asked whether it is still there, so often, and given up after so many questions.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Lines of an answer's head that are read. The library's own limit is 100, which cookies alone can reach; more than
/// this many are nobody's.
const MAX_HEADER_LINES: usize = 1_024;

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
/// Connects by the address rule, and meters what is read.
pub(crate) type Connector = BoxCloneSyncService<Uri, TokioIo<Metered<Stream>>, BoxError>;
type Builder = legacy::Builder;

/// Makes the client that sends webhooks. It keeps up to `idle_per_host` connections to each receiver open for the next:
/// fewer than are at work at a time would be closed and made anew all the time.
///
/// # Errors
/// If TLS cannot be set up.
pub fn webhook_client(guard: Guard, idle_per_host: usize) -> Result<GuardedClient, rustls::Error> {
    let mut builder = builder(WEBHOOK_READ_AHEAD);
    builder
        .pool_max_idle_per_host(idle_per_host)
        .pool_idle_timeout(MAX_IDLE);
    let connector = connector(guard, Arc::new(SystemResolver), WEBHOOK_READ_AHEAD)?;
    let agent = HeaderValue::from_static(concat!("wharf/", env!("CARGO_PKG_VERSION")));
    Ok(client(&builder, connector, Some(agent)))
}

/// Makes the client of one plugin. It names no user agent: the plugin's own headers are all that is sent.
///
/// # Errors
/// If TLS cannot be set up.
pub fn plugin_client(
    guard: Guard,
    resolver: Arc<dyn Resolver>,
) -> Result<GuardedClient, rustls::Error> {
    let mut builder = builder(PLUGIN_READ_AHEAD);
    builder.pool_idle_timeout(MAX_PLUGIN_IDLE);
    let connector = connector(guard, resolver, PLUGIN_READ_AHEAD)?;
    Ok(client(&builder, connector, None))
}

/// Makes the client of commands that ask a running host. Not guarded: the operator names the host, and it is often on
/// this machine.
///
/// # Errors
/// If TLS cannot be set up.
pub fn operator_client() -> reqwest::Result<Client> {
    install_tls_provider();
    // A host on this machine is not to be reached through a proxy of the environment.
    operator_builder().no_proxy().build()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that makes clients"
)]
fn operator_builder() -> ClientBuilder {
    Client::builder()
}

fn install_tls_provider() {
    // The program installs the same provider at its start; then this changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn client(
    builder: &Builder,
    connector: Connector,
    user_agent: Option<HeaderValue>,
) -> GuardedClient {
    let inner: legacy::Client<_, Full<Bytes>> = builder.build(connector);
    GuardedClient { inner, user_agent }
}

/// Settings of HTTP: no more is read ahead than this, in both versions. It bounds an answer's head as well.
fn builder(read_ahead: u32) -> Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(read_ahead as usize)
        // The status line decides. A header line that says nothing to us must not make a failure of a success: folded
        // lines are joined (RFC 9112, section 5.2), blanks before the colon dropped, other nonsense left out.
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_max_headers(MAX_HEADER_LINES)
        .http2_initial_stream_window_size(read_ahead)
        .http2_initial_connection_window_size(read_ahead);
    builder
}

fn connector(
    guard: Guard,
    resolver: Arc<dyn Resolver>,
    read_ahead: u32,
) -> Result<Connector, rustls::Error> {
    install_tls_provider();
    let mut http = HttpConnector::new_with_resolver(guarded_resolver(guard, resolver));
    // TLS comes on top.
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEPALIVE));
    http.set_keepalive_interval(Some(KEEPALIVE));
    http.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    #[cfg(target_os = "linux")]
    http.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let tls = ClientConfig::builder()
        .with_platform_verifier()?
        .with_no_client_auth();
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http);
    // What is read ahead, once in the buffer and once on its way to the reader, and as much again for heads.
    let max = 3 * read_ahead as usize;
    let metered = move |stream: Stream| Metered::new(stream, Allowance::new(max));
    Ok(BoxCloneSyncService::new(https.map_response(metered)))
}
