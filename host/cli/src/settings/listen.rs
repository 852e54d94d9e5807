//! The settings of the API: where it listens, for how many clients, and for how long.

use std::{fmt, net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum, value_parser};
use wharf_api::{AllowedHost, AllowedHosts, ApiAuth, ServerSettings};

use super::{Deployment, SettingError, Settings, clients::ClientArgs, parse};
use crate::process;

/// Addresses of this machine that one setting names; the first of them that is free is listened at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses(pub(super) Vec<SocketAddr>);

impl Addresses {
    /// The addresses.
    pub(crate) fn all(&self) -> &[SocketAddr] {
        &self.0
    }

    /// True if nobody beyond this machine reaches any of them.
    pub(crate) fn is_loopback(&self) -> bool {
        self.0.iter().all(|address| address.ip().is_loopback())
    }

    /// The addresses with this port.
    pub(crate) fn with_port(&self, port: u16) -> Self {
        let ips = self.0.iter().map(SocketAddr::ip);
        Self(ips.map(|ip| SocketAddr::new(ip, port)).collect())
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(", "))
    }
}

/// The address of the API, and its bounds.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "API")]
pub(crate) struct ListenArgs {
    /// The address or name to listen at; 0.0.0.0 is every network
    #[arg(long, env = "HOST", value_name = "HOST", default_value = "127.0.0.1", value_parser = parse::host)]
    pub(crate) host: Addresses,
    /// The port to listen at; 0 is any free one
    #[arg(long, env = "PORT", value_name = "PORT", default_value = "3000")]
    pub(crate) port: u16,
    /// The names and addresses that requests may give in Host, such as wharf.example.com,192.0.2.1:8080 [default: where
    /// HOST is a loopback address, the names and addresses of loopback, which are allowed in any case; else all]
    #[arg(long, env = "ALLOWED_HOSTS", value_name = "ALLOWED_HOSTS", value_delimiter = ',', value_parser = parse::allowed_host)]
    allowed_hosts: Vec<AllowedHost>,
    /// The address and port of the admin API, such as localhost:3001; the API's own then has none. Default: none, and the
    /// API answers /admin/ at its own
    #[arg(long, env = "ADMIN_ADDR", value_name = "ADMIN_ADDR", value_parser = parse::addresses)]
    pub(crate) admin_addr: Option<Addresses>,
    /// Whether clients have to show a key [default: off where HOST is a loopback address; beyond it must be said]
    #[arg(long, env = "API_AUTH", value_name = "API_AUTH")]
    api_auth: Option<Auth>,
    /// Time that a client has to send a request, head and body each; idle connections are closed after 2.5 times that
    #[arg(long, env = "REQUEST_TIMEOUT", value_name = "REQUEST_TIMEOUT", default_value = "30s",
          value_parser = parse::duration)]
    pub(crate) request_timeout: Duration,
    /// Connections of clients at a time [default: as descriptors allow, at most 8192]
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "MAX_CONNECTIONS",
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    max_connections: Option<u32>,
    #[command(flatten)]
    pub(crate) clients: ClientArgs,
    /// Time that the API serves on after a signal to stop, while /readyz says 503 [default: 0s; with PostgreSQL 5s]
    #[arg(long, env = "SHUTDOWN_DELAY", value_name = "SHUTDOWN_DELAY", value_parser = parse::delay)]
    shutdown_delay: Option<Duration>,
}

/// Operators, and some health checks.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// The setting API_AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Auth {
    /// Whoever reaches the API may do all that clients may.
    Off,
    /// Clients need a key (see `wharf key`).
    Required,
}

/// More would be a strain on memory: a connection may hold some 100 KiB of buffers.
const MAX_CONNECTIONS: u64 = 8_192;

impl ListenArgs {
    /// Refuses to leave open by accident what others can reach.
    pub(crate) fn check_auth(&self) -> Result<(), SettingError> {
        if self.api_auth.is_some() || self.host.is_loopback() {
            return Ok(());
        }
        Err(SettingError::new(
            "API_AUTH",
            "must be set where HOST is no loopback address: `required` asks clients for keys, which `wharf key create` makes; \
             `off` lets whoever reaches the port act for every organization",
        ))
    }

    /// Whether clients have to show a key. Warns where the door is open to others.
    pub(crate) fn auth(&self) -> ApiAuth {
        if self.api_auth == Some(Auth::Required) {
            return ApiAuth::Required;
        }
        if !self.host.is_loopback() {
            tracing::warn!(
                "API_AUTH is off: whoever reaches this port may act for every organization; `required` asks for keys"
            );
        }
        ApiAuth::Off
    }

    /// The API's bounds.
    pub(crate) fn server(&self, settings: &Settings) -> ServerSettings {
        let free = connections_within(process::descriptors(), own_descriptors(settings));
        let max_connections = self.max_connections.map_or(free, u64::from);
        // Only told: what is too much shows when descriptors run out, and idle connections make room then.
        if max_connections > free.max(MAX_CONNECTIONS) {
            tracing::warn!(
                max_connections,
                free,
                "MAX_CONNECTIONS is more than the limit on descriptors allows"
            );
        }
        ServerSettings {
            request_timeout: self.request_timeout,
            max_connections: usize::try_from(max_connections).unwrap_or(usize::MAX),
        }
    }

    /// The bounds of the admin API at an address of its own.
    pub(crate) fn admin_server(&self) -> ServerSettings {
        ServerSettings {
            request_timeout: self.request_timeout,
            max_connections: MAX_ADMIN_CONNECTIONS,
        }
    }

    /// The hosts that requests to these addresses may name.
    pub(crate) fn hosts(&self, addresses: &Addresses) -> AllowedHosts {
        AllowedHosts::new(self.allowed_hosts.clone(), addresses.is_loopback())
    }

    /// Load balancers need some seconds to see that a process is not ready any more. Nobody balances an embedded one.
    pub(crate) fn shutdown_delay(&self, deployment: Deployment) -> Duration {
        const PRODUCTION: Duration = Duration::from_secs(5);
        self.shutdown_delay.unwrap_or(match deployment {
            Deployment::Embedded => Duration::ZERO,
            Deployment::Shared => PRODUCTION,
        })
    }
}

/// The descriptors that the host needs for itself: a file or socket of each kind, each with some room.
fn own_descriptors(settings: &Settings) -> u64 {
    // Standard streams, listeners, polls, Redis, logs, plugin files, health checks, metrics and the admin API's clients.
    const OTHERS: u64 = 288;
    // SQLite has three files open for each connection.
    let database = 3 * (u64::from(settings.database.database_pool) + 1);
    // One that is being sent and one that is kept open for the next.
    let webhooks = 2 * settings.webhooks.callback_concurrency as u64;
    let plugins = 2 * settings.plugins.plugin_max_in_flight as u64;
    OTHERS + database + webhooks + plugins
}

/// The rest that is left for clients; a quarter where it is too little for both.
fn connections_within(descriptors: u64, own: u64) -> u64 {
    // With few descriptors a host that is slow at its work is better than one that cannot be asked.
    let left = descriptors.saturating_sub(own).max(descriptors / 4);
    left.clamp(1, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_host_leaves() {
        assert_eq!(connections_within(524_288, 900), 8_192);
        assert_eq!(connections_within(4_096, 900), 3_196);
        assert_eq!(connections_within(1_024, 900), 256, "a quarter");
        assert_eq!(connections_within(0, 900), 1);
    }
}
