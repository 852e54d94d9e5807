//! The suite of the address rule, from literals to names that change their address.

use std::{
    error::Error as _,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use wharf_domain::AddressPolicy;
use wharf_tests::{RawServer, read_request};

use crate::{Client, Guard, Resolver, Url, plugin_client};

fn strict() -> Guard {
    Guard::for_webhooks(AddressPolicy::default())
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL")
}

#[test]
fn literals_are_refused_in_every_spelling() {
    for text in [
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
        assert!(strict().check_literal(&url(text)).is_err(), "{text}");
        assert!(strict().check_target(&url(text)).is_err(), "{text}");
    }
    for text in [
        "http://1.1.1.1/",
        "http://example.com/",
        "http://[2606:4700::1]/",
    ] {
        assert!(strict().check_target(&url(text)).is_ok(), "{text}");
    }
}

#[test]
fn local_names_are_refused_where_loopback_is() {
    let with_loopback = Guard::for_webhooks(AddressPolicy::with_loopback());
    for text in [
        "http://localhost/",
        "http://LOCALHOST.:80/",
        "http://a.localhost/",
        "http://127.0.0.1/",
    ] {
        assert!(strict().check_target(&url(text)).is_err(), "{text}");
        assert!(with_loopback.check_target(&url(text)).is_ok(), "{text}");
    }
    assert!(
        strict().check_target(&url("http://nolocalhost/")).is_ok(),
        "another name"
    );
}

#[test]
fn a_refusal_says_how_to_allow_the_address() {
    let policy = AddressPolicy::default();
    for (guard, remedy) in [
        (
            Guard::for_webhooks(policy.clone()),
            "WEBHOOK_ALLOW_NETWORKS",
        ),
        (Guard::for_plugins(policy), "private_networks"),
    ] {
        let refused = guard.check_literal(&url("http://10.0.0.1/"));
        let text = refused.expect_err("it is private").to_string();
        assert!(
            text.starts_with("10.0.0.1 is not a public address") && text.contains(remedy),
            "{text}"
        );
    }
}

/// Answers these lists of addresses one after the other, the last one from then on.
struct Scripted(Mutex<Vec<Vec<IpAddr>>>);

impl Resolver for Scripted {
    fn resolve(&self, _: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let mut answers = self.0.lock().expect("no panics");
        let answer = if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        };
        Box::pin(async { Ok(answer) })
    }
}

fn client_with(policy: AddressPolicy, answers: Vec<Vec<IpAddr>>) -> Client {
    let resolver = Arc::new(Scripted(Mutex::new(answers)));
    plugin_client(Guard::for_webhooks(policy), resolver).expect("a client")
}

/// The innermost reason.
fn cause(error: &crate::Error) -> String {
    let mut cause = error.source().expect("a cause");
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[test]
fn a_name_is_refused_for_one_forbidden_address_among_others() {
    wharf_tests::run(async {
        for forbidden in wharf_domain::FORBIDDEN_NETWORKS {
            let network: ipnet::IpNet = forbidden.parse().expect("a network");
            for address in [network.network(), network.broadcast()] {
                let answers = vec![vec!["1.1.1.1".parse().expect("an address"), address]];
                let client = client_with(AddressPolicy::default(), answers);
                let sent = client.post("http://shop.test:1/").send().await;
                let cause = cause(&sent.expect_err("it is forbidden"));
                assert!(cause.contains("is not a public address"), "{cause}");
            }
        }
    })
}

#[test]
fn a_name_that_flips_to_loopback_is_not_connected_to() {
    wharf_tests::run(async {
        let answer = |mut stream: TcpStream| async move {
            read_request(&mut stream).await?;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await
        };
        // Stands for a public address: nothing here may leave the machine.
        let public = RawServer::start("127.0.0.2", answer);
        let public = public.await.expect("a server");
        let port = public.address().port();
        let inside = RawServer::start_at(([127, 0, 0, 1], port).into(), answer);
        let inside = inside.await.expect("a server");
        let policy = AddressPolicy {
            allowed: vec!["127.0.0.2/32".parse().expect("a network")],
        };
        let answers = vec![vec![[127, 0, 0, 2].into()], vec![[127, 0, 0, 1].into()]];
        let client = client_with(policy, answers);
        let url = format!("http://flips.test:{port}/");
        let sent = client.post(&url).body("a").send().await;
        assert_eq!(sent.expect("an answer").status(), 200);
        let sent = client.post(&url).body("b").send().await;
        let cause = cause(&sent.expect_err("it has flipped"));
        assert!(
            cause.contains("127.0.0.1 of flips.test is not a public address"),
            "{cause}"
        );
        assert_eq!((public.connections(), inside.connections()), (1, 0));
    })
}

#[test]
fn a_redirect_is_an_answer_and_not_followed() {
    wharf_tests::run(async {
        let answer = |mut stream: TcpStream| async move {
            read_request(&mut stream).await?;
            let answer = b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await
        };
        let server = RawServer::start("127.0.0.1", answer);
        let server = server.await.expect("a server");
        let client = client_with(AddressPolicy::with_loopback(), vec![vec![]]);
        let url = format!("http://{}/", server.address());
        let sent = client.get(url).send().await.expect("an answer");
        assert_eq!((sent.status().as_u16(), server.connections()), (302, 1));
    })
}
