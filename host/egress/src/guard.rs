//! The address rule as outbound requests apply it: to literals, to local names, and to what a name resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};
use wharf_domain::AddressPolicy;

/// An address that may not be connected to, with the way to allow it. For operators: clients are told less
/// (`told.rs`).
#[derive(Debug, thiserror::Error)]
#[error("{target} is not a public address; {remedy} if it is meant")]
pub struct Forbidden {
    target: String,
    remedy: &'static str,
}

/// A policy on addresses, and what its operator does to allow one more.
#[derive(Clone, Debug)]
pub struct Guard {
    policy: AddressPolicy,
    remedy: &'static str,
}

impl Guard {
    /// Returns the guard of webhook deliveries.
    pub fn for_webhooks(policy: AddressPolicy) -> Self {
        let remedy = "allow it with WEBHOOK_ALLOW_NETWORKS";
        Self { policy, remedy }
    }

    /// Returns the guard of one plugin's requests.
    pub fn for_plugins(policy: AddressPolicy) -> Self {
        let remedy = "grant it under private_networks";
        Self { policy, remedy }
    }

    /// Refuses a URL whose host is a forbidden address written out, in any spelling that the URL standard knows.
    ///
    /// # Errors
    /// [`Forbidden`] names the address.
    pub fn check_literal(&self, url: &Url) -> Result<(), Forbidden> {
        // A client asks no resolver about a literal, so the check at the connection never sees it. The URL parser has
        // turned 2130706433 and 0x7f.1 into 127.0.0.1 already.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            _ => return Ok(()),
        };
        if self.policy.permits(address) {
            Ok(())
        } else {
            Err(self.forbid(address.to_string()))
        }
    }

    /// Refuses what can be known of a URL before anything is resolved: forbidden literals, and the names that mean this
    /// machine (RFC 6761) where loopback is forbidden.
    ///
    /// # Errors
    /// [`Forbidden`] names the host.
    pub fn check_target(&self, url: &Url) -> Result<(), Forbidden> {
        let host = url.host_str().unwrap_or_default();
        // `localhost.` with the root's dot is the same name.
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_local = host == "localhost" || host.ends_with(".localhost");
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        if is_local && !loopback.iter().any(|at| self.policy.permits(*at)) {
            return Err(self.forbid(host));
        }
        self.check_literal(url)
    }

    /// Refuses a name if any of its addresses is forbidden. One is enough: the client picks which it connects to.
    pub(crate) fn check_resolved(&self, name: &str, found: &[IpAddr]) -> Result<(), Forbidden> {
        match found.iter().find(|address| !self.policy.permits(**address)) {
            Some(bad) => Err(self.forbid(format!("{bad} of {name}"))),
            None => Ok(()),
        }
    }

    fn forbid(&self, target: String) -> Forbidden {
        let remedy = self.remedy;
        Forbidden { target, remedy }
    }
}
