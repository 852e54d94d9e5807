//! The address rule: networks that webhooks and plugins must not reach.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// Networks that a webhook or a plugin must not reach: private, local, documentation, transition and reserved ranges
/// (IANA special-purpose registries), and everything in `::/8` that is not an IPv4 address in disguise.
pub const FORBIDDEN_NETWORKS: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    // Here clouds hand a machine its credentials.
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/8",
    // These and 6to4 (2002::/16) carry an IPv4 address, which may be a private one.
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Tells whether an address is on the public internet.
pub fn is_public(address: IpAddr) -> bool {
    let address = unwrapped(address);
    !FORBIDDEN_NETWORKS
        .iter()
        // A network with a typing error would forbid nothing, so a test parses them all.
        .filter_map(|net| net.parse::<IpNet>().ok())
        .any(|net| net.contains(&address))
}

/// An IPv4 address that hides in an IPv6 one (`::ffff:127.0.0.1`) is judged as what it reaches.
fn unwrapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 => v4,
    }
}

/// The addresses that outbound requests may reach: the public ones, and those that the operator allows besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Private ranges that are allowed all the same.
    pub allowed: Vec<IpNet>,
}

impl AddressPolicy {
    /// Public addresses and this machine's loopback: the default of the embedded host.
    pub fn with_loopback() -> Self {
        let loopback = [
            IpAddr::from([127, 0, 0, 0]),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        let nets = loopback
            .into_iter()
            // In IPv4 the whole of 127.0.0.0/8 is loopback, in IPv6 a single address.
            .zip([8, 128])
            .filter_map(|(ip, bits)| IpNet::new(ip, bits).ok());
        Self {
            allowed: nets.collect(),
        }
    }

    /// Tells whether a connection to this address may be made.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = unwrapped(address);
        // Mapped addresses are judged as what they reach, by the operator's list, too.
        is_public(address) || self.allowed.iter().any(|net| net.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_parses_and_is_refused_at_both_ends() {
        for range in FORBIDDEN_NETWORKS {
            let net: IpNet = range.parse().expect("a network");
            assert!(!is_public(net.network()), "{range}");
            assert!(!is_public(net.broadcast()), "{range}");
        }
    }

    #[test]
    fn neighbours_and_the_public_internet_are_allowed() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.128.0.0",
            "172.32.0.0",
            "223.255.255.255",
            "2606:4700::1",
            "2a00::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn loopback_in_disguise_is_loopback() {
        for address in [
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "::1",
            "::",
        ] {
            assert!(
                !is_public(address.parse().expect("an address")),
                "{address}"
            );
        }
        let policy = AddressPolicy::with_loopback();
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "8.8.8.8",
        ] {
            assert!(
                policy.permits(address.parse().expect("an address")),
                "{address}"
            );
        }
        assert!(!policy.permits("10.0.0.1".parse().expect("an address")));
    }
}
