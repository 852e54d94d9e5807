//! The limits of one client of the API.

use clap::{Args, value_parser};
use wharf_api::{ClientLimit, ClientLimits};
use wharf_domain::Budget;

use super::parse;

/// What one client may ask for: an organization with all its keys, an operator's key or, without any, an address.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "API")]
pub(crate) struct ClientArgs {
    /// Requests a second of one client, an organization or an address, from each process; `off` for any number [default: 1000;
    /// off for clients of this machine without a key]
    #[arg(long, env = "CLIENT_RATE", value_name = "CLIENT_RATE", value_parser = parse::at_most)]
    client_rate: Option<AtMost>,
    /// Requests of one client that may come at once, before CLIENT_RATE holds [default: twice CLIENT_RATE]
    #[arg(long, env = "CLIENT_BURST", value_name = "CLIENT_BURST", value_parser = value_parser!(u32).range(1..=1_000_000))]
    client_burst: Option<u32>,
    /// Requests of one client in work at a time, from each process; `off` for any number [default: 256; 4096 for all
    /// clients of this machine without a key together]
    #[arg(long, env = "CLIENT_CONCURRENCY", value_name = "CLIENT_CONCURRENCY", value_parser = parse::at_most)]
    client_concurrency: Option<AtMost>,
}

/// A limit; `None` for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtMost(pub(super) Option<u32>);

/// More than people and their programs need, and less than what keeps a small machine from everybody else.
const RATE: AtMost = AtMost(Some(1_000));
const CONCURRENCY: AtMost = AtMost(Some(256));
/// As many as a benchmark or an import of this machine may well have. What is beyond waits in memory alone.
const LOCAL_CONCURRENCY: AtMost = AtMost(Some(4_096));

impl ClientArgs {
    /// The limits.
    pub(crate) fn limits(self) -> ClientLimits {
        ClientLimits {
            client: self.limit(RATE, CONCURRENCY),
            // Whoever is on this machine can stop the host as well: only what is asked for is kept from them.
            local: self.limit(AtMost(None), LOCAL_CONCURRENCY),
        }
    }

    fn limit(self, rate: AtMost, concurrency: AtMost) -> ClientLimit {
        let rate = self.client_rate.unwrap_or(rate).0;
        ClientLimit {
            rate: rate.map(|rate| Budget::per_second(rate, self.client_burst.unwrap_or(2 * rate))),
            concurrency: self.client_concurrency.unwrap_or(concurrency).0,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        clients: ClientArgs,
    }

    fn limits(flags: &[&str]) -> ClientLimits {
        Line::parse_from(std::iter::once(&"wharf").chain(flags))
            .clients
            .limits()
    }

    #[test]
    fn this_machine_is_limited_by_what_is_asked_for() {
        let default = limits(&[]);
        assert_eq!(default.client.rate, Some(Budget::per_second(1_000, 2_000)));
        assert_eq!(default.local.rate, None);
        let asked = limits(&[
            "--client-rate",
            "5",
            "--client-burst",
            "7",
            "--client-concurrency",
            "3",
        ]);
        assert_eq!(asked.client, asked.local);
        assert_eq!(asked.client.rate, Some(Budget::per_second(5, 7)));
        assert_eq!(asked.client.concurrency, Some(3));
        let off = limits(&["--client-rate", "off", "--client-concurrency", "0"]);
        assert_eq!(off, ClientLimits::default());
    }
}
