//! The front door: clients that say nothing, little, slowly, or too much at a time, and what the host does for others
//! meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{interval, timeout},
};
use wharf_tests::{
    Answer, Backend, Host, Ledger, PATIENCE, Receiver, Shop, Site, eventually, on_every_backend,
};

const HALF_HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-a";
const HALF_BODY: &str = "POST /stores/register HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
    content-length: 100\r\n\r\n{";
/// What a client of HTTP/2 says first: its preface and its settings, with windows of this size for answers.
const fn http2_hello(window: u8) -> [u8; 39] {
    let mut hello = [0; 39];
    let said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0";
    let mut at = 0;
    while at < said.len() {
        hello[at] = said[at];
        at += 1;
    }
    hello[38] = window;
    hello
}

async fn connect(host: &Host) -> Result<TcpStream> {
    let address = host.base_url().trim_start_matches("http://");
    Ok(TcpStream::connect(address).await?)
}

/// A connection from this address of the machine.
async fn connect_from(client: [u8; 4], host: &Host) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((client, 0).into())?;
    let address = host.base_url().trim_start_matches("http://");
    Ok(socket.connect(address.parse()?).await?)
}

async fn saying(host: &Host, words: impl AsRef<[u8]>) -> Result<TcpStream> {
    let mut connection = connect(host).await?;
    connection.write_all(words.as_ref()).await?;
    Ok(connection)
}

/// Waits until the host has closed a connection, and returns what it said before.
async fn closed(what: &str, mut connection: TcpStream) -> Result<String> {
    let mut said = Vec::new();
    // It ends in a reset where the host closes what it has not read.
    let _ = timeout(PATIENCE, connection.read_to_end(&mut said))
        .await
        .with_context(|| format!("{what} is not closed"))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Sends a byte now and then until the host closes.
async fn dribble(what: &str, connection: TcpStream) -> Result<()> {
    let (mut reader, mut writer) = connection.into_split();
    let mut pace = interval(Duration::from_millis(100));
    let writing = async {
        while writer.write_all(b"a").await.is_ok() {
            pace.tick().await;
        }
    };
    let mut said = Vec::new();
    let reading = async {
        let _ = reader.read_to_end(&mut said).await;
    };
    let ended = async {
        tokio::select! { () = writing => {} () = reading => {} }
    };
    timeout(PATIENCE, ended)
        .await
        .with_context(|| format!("{what} is not closed"))
}

async fn nobody_keeps_a_connection_for_ever(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().env("REQUEST_TIMEOUT", "1s").start().await?;
    let silent = connect(&host).await?;
    let half_head = saying(&host, HALF_HEAD).await?;
    let dribbled_head = saying(&host, HALF_HEAD).await?;
    let half_body = saying(&host, HALF_BODY).await?;
    let dribbled_body = saying(&host, HALF_BODY).await?;
    let idle = saying(&host, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let half_preface = saying(&host, &http2_hello(1)[..20]).await?;
    let http2 = saying(&host, http2_hello(1)).await?;
    let (silent, half_head, half_body, idle, half_preface, http2, ..) = tokio::try_join!(
        closed("a silent connection", silent),
        closed("half a head", half_head),
        closed("half a body", half_body),
        closed("an idle connection", idle),
        closed("half a preface", half_preface),
        closed("a silent connection of HTTP/2", http2),
        dribble("a head that comes slowly", dribbled_head),
        dribble("a body that comes slowly", dribbled_body),
    )?;
    assert_eq!((silent.as_str(), half_head.as_str()), ("", ""));
    assert!(half_body.starts_with("HTTP/1.1 408"), "{half_body}");
    assert!(idle.starts_with("HTTP/1.1 200"), "{idle}");
    assert!(half_preface.is_empty() || half_preface.starts_with('\0'));
    assert!(http2.starts_with('\0'), "it has sent its settings: {http2}");
    let scrape = host.scrape().await?;
    for (reason, at_least) in [("silent", 5.0), ("idle", 1.0)] {
        let closed = scrape.value("wharf_http_connections_closed_total", &[("reason", reason)]);
        assert!(closed >= at_least, "{reason}: {closed}");
    }
    Ok(())
}

/// Clients that ask for much and take nothing of it, in both versions of HTTP.
async fn answers_that_nobody_takes_are_given_up(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().env("REQUEST_TIMEOUT", "1s").start().await?;
    let request = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
    // More than all buffers between the two hold.
    let mut greedy = saying(&host, request).await?;
    let asking = async { while greedy.write_all(request.as_bytes()).await.is_ok() {} };
    let mut http2 = http2_hello(0).to_vec();
    let fields = b"\x82\x86\x04\x0d/openapi.json\x41\x01x";
    http2.extend([0, 0, fields.len() as u8, 1, 5, 0, 0, 0, 1]);
    http2.extend(fields);
    let stuck = saying(&host, http2).await?;
    let (_, stuck) = tokio::try_join!(
        async { timeout(PATIENCE, asking).await.context("it still listens") },
        closed("a client of HTTP/2 without a window", stuck),
    )?;
    assert!(stuck.starts_with('\0'), "{stuck}");
    let slow = || async {
        let scrape = host.scrape().await.ok()?;
        let slow = scrape.value("wharf_http_connections_closed_total", &[("reason", "slow")]);
        (slow >= 2.0).then_some(())
    };
    eventually("both count as slow", PATIENCE, slow).await
}

async fn silent_connections_make_room(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().descriptors(512).start().await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let mut held = Vec::new();
    for _ in 0..700 {
        held.push(saying(&host, "G").await?);
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get_anew(&host, path).await?.status, 200, "{path}");
    }
    assert_eq!(shop.import(&host, "order-101").await?["success"], true);
    let scrape = host.scrape().await?;
    let evicted = scrape.value(
        "wharf_http_connections_closed_total",
        &[("reason", "evicted")],
    );
    assert!(evicted >= 100.0, "{evicted}");
    let open = scrape.value("wharf_http_connections", &[]);
    assert!((1.0..=512.0).contains(&open), "{open}");
    Ok(())
}

/// A request on a connection of its own.
/// RFC 9112, 3.2: a request of HTTP/1.1 names its host once, and as a host.
async fn a_request_names_its_host(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    for (version, lines, status) in [
        ("1.1", "host: localhost\r\n", 200),
        ("1.1", "Host: [::1]:3000\r\n", 200),
        ("1.1", "host:\r\n", 200),
        ("1.0", "", 200),
        ("1.1", "", 400),
        ("1.1", "host: localhost\r\nhost: localhost\r\n", 400),
        ("1.0", "host: localhost\r\nhost: y\r\n", 400),
        ("1.1", "host: a b\r\n", 400),
        ("1.1", "host: u@x\r\n", 400),
        ("1.1", "host: x:port\r\n", 400),
    ] {
        let request = format!("GET /healthz HTTP/{version}\r\n{lines}\r\n");
        let mut connection = saying(&host, &request).await?;
        let mut answer = [0; 12];
        timeout(PATIENCE, connection.read_exact(&mut answer)).await??;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.ends_with(&format!(" {status}")),
            "{request:?}: {answer}"
        );
        if status == 400 {
            let mut rest = String::new();
            timeout(PATIENCE, connection.read_to_string(&mut rest)).await??;
            assert!(rest.contains(r#"{"error":"Bad request""#), "{rest}");
        }
    }
    Ok(())
}

async fn get_anew(host: &Host, path: &str) -> Result<Answer> {
    let request = wharf_tests::client().get(format!("{}{path}", host.base_url()));
    Answer::to(request.timeout(PATIENCE)).await
}

/// A connection with a request in the host's hands: the host asks for its body.
async fn at_work_from(client: [u8; 4], host: &Host) -> Result<TcpStream> {
    let head = "POST /orders/import HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        content-length: 100\r\nexpect: 100-continue\r\n\r\n";
    let mut connection = connect_from(client, host).await?;
    connection.write_all(head.as_bytes()).await?;
    let mut asks = [0; 25];
    timeout(PATIENCE, connection.read_exact(&mut asks)).await??;
    Ok(connection)
}

async fn one_client_at_work_leaves_places_to_others(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().env("MAX_CONNECTIONS", "8").start().await?;
    let mut at_work = Vec::new();
    for _ in 0..6 {
        at_work.push(at_work_from([127, 0, 0, 2], &host).await?);
    }
    let mut seventh = connect_from([127, 0, 0, 2], &host).await?;
    let request = "GET /webhooks?organizationId=org-1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    seventh.write_all(request.as_bytes()).await?;
    let refused = closed("the seventh connection", seventh).await?;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let served = get_anew(&host, "/webhooks?organizationId=org-1").await?;
    assert_eq!(served.status, 200, "another client");
    Ok(())
}

async fn health_is_answered_when_every_place_is_at_work(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().env("MAX_CONNECTIONS", "4").start().await?;
    let mut at_work = Vec::new();
    // Two each: one client alone does not get all four.
    for client in [2, 2, 3, 3] {
        at_work.push(at_work_from([127, 0, 0, client], &host).await?);
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get_anew(&host, path).await?.status, 200, "{path}");
    }
    let refused = get_anew(&host, "/webhooks?organizationId=org-1").await?;
    assert_eq!(
        (
            refused.status,
            refused.get("message"),
            refused.header("retry-after")
        ),
        (503, json!("too many connections"), "1")
    );
    drop(at_work);
    let served = || async {
        let answer = get_anew(&host, "/webhooks?organizationId=org-1").await;
        answer.ok().filter(|answer| answer.status == 200)
    };
    eventually("places are free again", PATIENCE, served).await?;
    Ok(())
}

/// The host has not one descriptor left: webhooks wait, and their receivers are not blamed.
async fn want_of_descriptors_is_no_attempt(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().env("DATABASE_POOL", "4").start().await?;
    let ledger = Ledger::open(&site).await?;
    let mut receivers = Vec::new();
    for organization in ["warm-up", "org-1"] {
        let receiver = Receiver::start().await?;
        let url = receiver.url();
        let hook =
            json!({"organizationId": organization, "event": "sync.completed", "targetUrl": url});
        assert_eq!(host.post("/webhooks/register", &hook).await?.status, 200);
        receivers.push(receiver);
    }
    // The connections to the database are open afterwards, and none to the receiver that counts.
    for sent in 1..=8 {
        ledger.put_event("warm-up", "sync.completed", "{}").await?;
        receivers[0].wait_for(sent).await?;
    }
    ledger
        .wait_for("select count(*) as n from callback_deliveries where state = 'success' having count(*) = 8")
        .await?;
    let receiver = &receivers[1];
    host.limit_descriptors(8)?;
    ledger.put_event("org-1", "sync.completed", "{}").await?;
    host.logged_message("webhooks cannot be sent by this host and were given back")
        .await?;
    let delivery = ledger
        .row("select state, attempt, last_error from callback_deliveries where organization_id = 'org-1'")
        .await?;
    assert_eq!(
        delivery,
        json!({"state": "pending", "attempt": 0, "last_error": null})
    );
    host.limit_descriptors(1_024)?;
    receiver.wait_for_event("sync.completed").await?;
    ledger
        .wait_for("select id from callback_deliveries where organization_id = 'org-1' and state = 'success' and attempt = 1")
        .await?;
    let endpoint = ledger
        .row("select failures from webhook_endpoints where organization_id = 'org-1' and failing_since is null")
        .await?;
    assert_eq!(endpoint["failures"], 0);
    let told = host.scrape().await?;
    let not_sent = told.value(
        "wharf_deliveries_not_sent_total",
        &[("reason", "no_descriptors")],
    );
    assert!(not_sent >= 1.0, "{not_sent}");
    Ok(())
}

/// Half requests and idle connections do not hold up a stop, however long requests in work would be waited for.
async fn a_stop_does_not_wait_for_half_requests(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site
        .host()
        .env("SHUTDOWN_GRACE", "10m")
        .env("REQUEST_TIMEOUT", "10m")
        .start()
        .await?;
    let silent = connect(&host).await?;
    let half_head = saying(&host, HALF_HEAD).await?;
    let half_body = saying(&host, HALF_BODY).await?;
    let mut idle = saying(&host, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let http2 = saying(&host, http2_hello(1)).await?;
    assert!(idle.read(&mut [0; 1_024]).await? > 0);
    assert_eq!(host.stop().await?.code(), Some(0), "{}", host.logged());
    drop((silent, half_head, half_body, idle, http2));
    Ok(())
}

async fn a_crash_leaves_no_core_file(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    for (setting, most) in [(None, Some("0")), (Some("true"), None)] {
        let mut builder = site.host();
        if let Some(setting) = setting {
            builder = builder.env("WHARF_CORE_DUMPS", setting);
        }
        let mut host = builder.start().await?;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.pid()))?;
        let core = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"))
            .context("a limit on core files")?;
        let hard = core.split_whitespace().nth(1).context("a hard limit")?;
        // Without the setting the surroundings decide.
        let ours = std::fs::read_to_string("/proc/self/limits")?;
        ensure!(
            most.map_or(ours.contains(core), |most| hard == most),
            "{setting:?}: {core}"
        );
        host.stop().await?;
    }
    Ok(())
}

async fn http2_without_an_upgrade_is_served(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let client = Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .timeout(PATIENCE)
        .build()?;
    for path in ["/healthz", "/openapi.json"] {
        let answer = Answer::to(client.get(format!("{}{path}", host.base_url()))).await?;
        assert_eq!(answer.status, 200);
    }
    let body = json!({"organizationId": "org-1"});
    let refused = client
        .post(format!("{}/webhooks/register", host.base_url()))
        .json(&body);
    assert_eq!(Answer::to(refused).await?.status, 400);
    Ok(())
}

on_every_backend!(
    a_request_names_its_host,
    nobody_keeps_a_connection_for_ever,
    answers_that_nobody_takes_are_given_up,
    silent_connections_make_room,
    health_is_answered_when_every_place_is_at_work,
    one_client_at_work_leaves_places_to_others,
    want_of_descriptors_is_no_attempt,
    a_stop_does_not_wait_for_half_requests,
    a_crash_leaves_no_core_file,
    http2_without_an_upgrade_is_served,
);
