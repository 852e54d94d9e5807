//! The border for outbound HTTP: which addresses may be connected to.
//!
//! The check stands where the connection is made, on the addresses that the resolver answered, so that a name which
//! changes its address between check and use gains nothing. A resolver is not asked for literals, so those are
//! checked by themselves.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use wharf_domain::AddressPolicy;

/// Why an address may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a public address; allow it with WEBHOOK_ALLOW_NETWORKS if it is meant")]
pub(crate) struct Forbidden(String);

/// Refuses a URL whose host is a forbidden address written out, in any spelling that the URL standard knows.
pub(crate) fn check_literal(url: &Url, policy: &AddressPolicy) -> Result<(), Forbidden> {
    // The URL parser has turned 2130706433 and 0x7f.1 into 127.0.0.1 already.
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match literal {
        Ok(address) if !policy.permits(address) => Err(Forbidden(address.to_string())),
        _ => Ok(()),
    }
}

/// Refuses what can be known of a URL before anything is resolved: forbidden literals, and the names that mean this
/// machine (RFC 6761) where loopback is forbidden.
pub(crate) fn check_target(url: &Url, policy: &AddressPolicy) -> Result<(), Forbidden> {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let is_local = host == "localhost" || host.ends_with(".localhost");
    if is_local && !policy.permits(Ipv4Addr::LOCALHOST.into()) && !policy.permits(Ipv6Addr::LOCALHOST.into()) {
        return Err(Forbidden(host));
    }
    check_literal(url, policy)
}

/// Resolves names and refuses them if any of their addresses is forbidden.
pub(crate) struct GuardedResolver(pub(crate) Arc<AddressPolicy>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(bad) = found.iter().find(|address| !policy.permits(address.ip())) {
                return Err(Forbidden(format!("{} of {}", bad.ip(), name.as_str())).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_refused_in_every_spelling() {
        let policy = AddressPolicy::default();
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest",
            "http://10.0.0.1:8080/",
        ] {
            let url = Url::parse(url).expect("a URL");
            assert!(check_literal(&url, &policy).is_err(), "{url}");
        }
        for url in ["http://localhost/", "http://LOCALHOST.:80/", "http://a.localhost/", "http://127.0.0.1/"] {
            let url = Url::parse(url).expect("a URL");
            assert!(check_target(&url, &policy).is_err(), "{url}");
            assert!(check_target(&url, &AddressPolicy::with_loopback()).is_ok(), "{url}");
        }
        for url in ["http://1.1.1.1/", "http://example.com/", "http://[2606:4700::1]/"] {
            assert!(check_literal(&Url::parse(url).expect("a URL"), &policy).is_ok(), "{url}");
        }
    }
}
