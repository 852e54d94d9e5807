//! The suite of the address rule, from literals to names that change their address, and of what peers may send.

use std::{
    error::Error as _,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use wharf_domain::AddressPolicy;
use wharf_tests::{RawServer, read_request};

use crate::{
    Answer, Error, Guard, GuardedClient, Method, Request, Resolver, Url, header::HeaderMap,
    plugin_client, webhook_client,
};

/// Beyond what any test needs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that the kernel takes from a server while its client reads none: the most that Linux' defaults allow for both
/// sockets, and a little.
const MAX_IN_SOCKETS: usize = 12 << 20;

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

fn client_with(policy: AddressPolicy, answers: Vec<Vec<IpAddr>>) -> GuardedClient {
    let resolver = Arc::new(Scripted(Mutex::new(answers)));
    plugin_client(Guard::for_webhooks(policy), resolver).expect("a client")
}

async fn ask(client: &GuardedClient, method: Method, target: &str) -> Result<Answer, Error> {
    let request = Request {
        method,
        url: url(target),
        headers: HeaderMap::new(),
        body: "a".into(),
        deadline: Instant::now() + PATIENCE,
    };
    client.send(request).await
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
                let sent = ask(&client, Method::POST, "http://shop.test:1/").await;
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
        let sent = ask(&client, Method::POST, &url).await;
        assert_eq!(sent.expect("an answer").status(), 200);
        let sent = ask(&client, Method::POST, &url).await;
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
        let sent = ask(&client, Method::GET, &url).await.expect("an answer");
        assert_eq!((sent.status().as_u16(), server.connections()), (302, 1));
    })
}

/// A server that begins its answer with these words and goes on with those for as long as somebody takes them. Returns it
/// with the number of bytes that it got rid of.
async fn endless(head: &'static str, then: &'static str) -> (RawServer, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let server = RawServer::start("127.0.0.1", move |mut stream| {
        let counted = counted.clone();
        async move {
            read_request(&mut stream).await?;
            stream.write_all(head.as_bytes()).await?;
            let words = then.repeat(100);
            loop {
                let bytes = stream.write(words.as_bytes()).await?;
                counted.fetch_add(bytes, Ordering::SeqCst);
            }
        }
    });
    (server.await.expect("a server"), sent)
}

fn both_clients() -> [GuardedClient; 2] {
    let guard = Guard::for_webhooks(AddressPolicy::with_loopback());
    let for_webhooks = webhook_client(guard, 1).expect("a client");
    [
        for_webhooks,
        client_with(AddressPolicy::with_loopback(), vec![]),
    ]
}

#[test]
fn a_peer_that_never_comes_to_its_answer_is_left() {
    wharf_tests::run(async {
        for (head, then, why) in [
            ("", "HTTP/1.1 100 Continue\r\n\r\n", "before the answer"),
            (
                "",
                "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
                "before the answer",
            ),
            ("HTTP/1.1 200 OK\r\nx: ", "yyyyyyyy", "message head"),
        ] {
            for client in both_clients() {
                let (server, sent) = endless(head, then).await;
                let url = format!("http://{}/", server.address());
                let error = ask(&client, Method::POST, &url).await;
                let cause = cause(&error.expect_err("no answer came"));
                assert!(cause.contains(why), "{cause}");
                let sent = sent.load(Ordering::SeqCst);
                assert!(sent <= 3 * 512 * 1024 + MAX_IN_SOCKETS, "{sent} bytes");
            }
        }
    })
}

#[test]
fn a_large_answer_comes_whole() {
    const BYTES: usize = 8 << 20;
    wharf_tests::run(async {
        let server = RawServer::start("127.0.0.1", |mut stream| async move {
            read_request(&mut stream).await?;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&vec![b'x'; BYTES]).await
        });
        let server = server.await.expect("a server");
        let url = format!("http://{}/", server.address());
        for client in both_clients() {
            let answer = ask(&client, Method::GET, &url).await;
            let (mut body, mut read) = (answer.expect("an answer").into_body(), 0);
            while let Some(chunk) = body.chunk().await.expect("it does not break off") {
                read += chunk.len();
            }
            assert_eq!(read, BYTES);
        }
    })
}

#[test]
fn the_deadline_ends_a_body_as_well() {
    wharf_tests::run(async {
        let (server, _) = endless("HTTP/1.1 200 OK\r\n\r\n", "xxxxxxxx").await;
        let [client, _] = both_clients();
        let request = Request {
            method: Method::GET,
            url: url(&format!("http://{}/", server.address())),
            headers: HeaderMap::new(),
            body: "".into(),
            deadline: Instant::now() + Duration::from_millis(500),
        };
        let mut body = client.send(request).await.expect("an answer").into_body();
        let ended = loop {
            match body.chunk().await {
                Ok(Some(_)) => {}
                ended => break ended,
            }
        };
        assert!(matches!(ended, Err(Error::TimedOut)), "{ended:?}");
    })
}
