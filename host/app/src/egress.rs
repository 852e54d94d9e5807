//! The border for outbound HTTP: which addresses may be connected to.
//!
//! The check stands where the connection is made, on the addresses that the resolver answered, so that a name which
//! changes its address between check and use gains nothing. A resolver is not asked for literals, so those are
//! checked by themselves.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
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
    let literal = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    match literal {
        Ok(address) if !policy.permits(address) => Err(Forbidden(address.to_string())),
        _ => Ok(()),
    }
}

/// Refuses what can be known of a URL before anything is resolved: forbidden literals, and the names that mean this
/// machine (RFC 6761) where loopback is forbidden.
pub(crate) fn check_target(url: &Url, policy: &AddressPolicy) -> Result<(), Forbidden> {
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_end_matches('.')
        .to_ascii_lowercase();
    let is_local = host == "localhost" || host.ends_with(".localhost");
    if is_local
        && !policy.permits(Ipv4Addr::LOCALHOST.into())
        && !policy.permits(Ipv6Addr::LOCALHOST.into())
    {
        return Err(Forbidden(host));
    }
    check_literal(url, policy)
}

/// Answers a name's addresses.
pub(crate) type Lookup =
    dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// Resolves names and refuses them if any of their addresses is forbidden.
pub(crate) struct GuardedResolver {
    policy: Arc<AddressPolicy>,
    lookup: Arc<Lookup>,
}

impl GuardedResolver {
    /// Asks as the operating system is set up to.
    pub(crate) fn system(policy: Arc<AddressPolicy>) -> Self {
        let lookup = |name| {
            let found = async move {
                Ok(tokio::net::lookup_host((name, 0))
                    .await?
                    .map(|found| found.ip())
                    .collect())
            };
            found.boxed()
        };
        Self {
            policy,
            lookup: Arc::new(lookup),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, found) = (
            Arc::clone(&self.policy),
            (self.lookup)(name.as_str().to_owned()),
        );
        Box::pin(async move {
            let found = found.await?;
            if let Some(bad) = found.iter().find(|address| !policy.permits(**address)) {
                return Err(Forbidden(format!("{bad} of {}", name.as_str())).into());
            }
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// A client for webhooks: pooled, no redirects (they would carry the body past the address rule), no proxy from the
/// environment.
pub(crate) fn client(resolver: GuardedResolver, idle_per_host: usize) -> reqwest::Result<Client> {
    Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(resolver))
        .pool_max_idle_per_host(idle_per_host)
        .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::{io::AsyncWriteExt, net::TcpStream};
    use wharf_tests::{RawServer, read_request};

    use super::*;
    use crate::callbacks::causes;

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
        for url in [
            "http://localhost/",
            "http://LOCALHOST.:80/",
            "http://a.localhost/",
            "http://127.0.0.1/",
        ] {
            let url = Url::parse(url).expect("a URL");
            assert!(check_target(&url, &policy).is_err(), "{url}");
            assert!(
                check_target(&url, &AddressPolicy::with_loopback()).is_ok(),
                "{url}"
            );
        }
        for url in [
            "http://1.1.1.1/",
            "http://example.com/",
            "http://[2606:4700::1]/",
        ] {
            assert!(
                check_literal(&Url::parse(url).expect("a URL"), &policy).is_ok(),
                "{url}"
            );
        }
    }

    /// A client whose names have these addresses, the last ones from then on.
    fn client_with(policy: &AddressPolicy, answers: Vec<Vec<IpAddr>>) -> Client {
        wharf_tests::standard_tls();
        let answers = Mutex::new(answers);
        let lookup = move |_| {
            let mut answers = answers.lock().expect("no panics");
            let answer = if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0].clone()
            };
            async { Ok(answer) }.boxed()
        };
        let resolver = GuardedResolver {
            policy: Arc::new(policy.clone()),
            lookup: Arc::new(lookup),
        };
        client(resolver, 1).expect("a client")
    }

    #[test]
    fn a_name_is_refused_for_one_forbidden_address_among_others() {
        wharf_tests::run(async {
            for forbidden in wharf_domain::FORBIDDEN_NETWORKS {
                let network: ipnet::IpNet = forbidden.parse().expect("a network");
                for address in [network.network(), network.broadcast()] {
                    let answers = vec![vec!["1.1.1.1".parse().expect("an address"), address]];
                    let client = client_with(&AddressPolicy::default(), answers);
                    let error = client
                        .post("http://shop.test:1/")
                        .send()
                        .await
                        .expect_err("it is forbidden");
                    assert!(
                        causes(&error).contains("is not a public address"),
                        "{address}: {}",
                        causes(&error)
                    );
                }
            }
        })
    }

    #[test]
    fn a_name_that_flips_to_loopback_is_not_connected_to() {
        wharf_tests::run(async {
            let answer = |mut stream: TcpStream| async move {
                read_request(&mut stream).await?;
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .await
            };
            // Stands for a public address: nothing here may leave the machine.
            let public = RawServer::start("127.0.0.2", answer)
                .await
                .expect("a server");
            let port = public.address().port();
            let inside = RawServer::start_at(([127, 0, 0, 1], port).into(), answer)
                .await
                .expect("a server");
            let policy = AddressPolicy {
                allowed: vec!["127.0.0.2/32".parse().expect("a network")],
            };
            let answers = vec![vec![[127, 0, 0, 2].into()], vec![[127, 0, 0, 1].into()]];
            let client = client_with(&policy, answers);
            let url = format!("http://flips.test:{port}/");
            assert_eq!(
                client
                    .post(&url)
                    .body("a")
                    .send()
                    .await
                    .expect("an answer")
                    .status(),
                200
            );
            let error = client
                .post(&url)
                .body("b")
                .send()
                .await
                .expect_err("it has flipped");
            assert!(
                causes(&error).contains("127.0.0.1 of flips.test is not a public address"),
                "{}",
                causes(&error)
            );
            assert_eq!((public.connections(), inside.connections()), (1, 0));
        })
    }
}
