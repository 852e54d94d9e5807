//! The clients: one for each kind of stranger, and one for the operator's own host.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, ClientBuilder, redirect::Policy};

use crate::{Guard, Resolver, SystemResolver, resolver::GuardedResolver};

/// The time that a connection to a receiver is kept for the next webhook. Every receiver may hold a descriptor for so
/// long.
const MAX_IDLE: Duration = Duration::from_secs(10);

/// Makes the client that sends webhooks.
///
/// # Errors
/// If TLS cannot be set up.
pub fn webhook_client(guard: Guard, idle_per_host: usize) -> reqwest::Result<Client> {
    guarded(guard, Arc::new(SystemResolver))
        .pool_max_idle_per_host(idle_per_host)
        .pool_idle_timeout(MAX_IDLE)
        .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Makes the client of one plugin. It names no user agent: the plugin's own headers are all that is sent.
///
/// # Errors
/// If TLS cannot be set up.
pub fn plugin_client(guard: Guard, resolver: Arc<dyn Resolver>) -> reqwest::Result<Client> {
    guarded(guard, resolver).build()
}

/// Makes the client of commands that ask a running host. Not guarded: the operator names the host, and it is often on
/// this machine.
///
/// # Errors
/// If TLS cannot be set up.
pub fn operator_client() -> reqwest::Result<Client> {
    // A host on this machine is not to be reached through a proxy of the environment.
    builder().build()
}

pub(crate) fn guarded(guard: Guard, inner: Arc<dyn Resolver>) -> ClientBuilder {
    builder()
        // A redirect would carry the request past the literal check.
        .redirect(Policy::none())
        .dns_resolver(Arc::new(GuardedResolver { guard, inner }))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that makes clients"
)]
fn builder() -> ClientBuilder {
    // The program installs the same provider at its start; then this changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy()
}
