//! SIGTERM in the middle of work, and what is kept of secrets.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use wharf_tests::{Backend, Ledger, Receiver, Shop, Signal, Site, guest, on_every_backend};

const STOPPING: &str = "stopping: what is in flight is finished first";

async fn a_request_in_flight_is_finished(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site.host().start().await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let body = json!({"syncToken": shop.sync_token, "receipt": "order-101"}).to_string();
    let address = host.base_url().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(&address).await?;
    let head = format!(
        "POST /orders/import HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await?;
    // It asks for the body: the request is in its hands.
    let mut asks = [0; 25];
    connection.read_exact(&mut asks).await?;
    assert_eq!(&asks, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(&body.as_bytes()[..20]).await?;
    host.signal(Signal::TERM)?;
    host.logged_message(STOPPING).await?;
    connection.write_all(&body.as_bytes()[20..]).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(r#""success":true"#),
        "{answer}"
    );
    assert_eq!(host.wait().await?.code(), Some(0));
    let ledger = Ledger::open(&site).await?;
    assert_eq!(
        ledger.row("select status from sync_logs").await?["status"],
        "success",
        "answered is stored"
    );
    Ok(())
}

/// A job whose adapter hangs is given back at once, not when its lease ends, and the next host finishes it.
async fn a_sync_job_is_given_back(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    site.install_plugin("hostile", &guest("hostile-adapter"))?;
    let mut host = site.host().start().await?;
    let shop = Shop::open(&host, "org-1", "hostile").await?;
    let ledger = Ledger::open(&site).await?;
    let log = |receipt: &str| {
        format!(
            "({}, '{receipt}', {})",
            ledger.id(&shop.store_id),
            ledger.time(-60)
        )
    };
    let logs = [log("sleep-in-host-call"), log("fine")].join(", ");
    ledger
        .execute(&format!(
            "insert into sync_logs (store_id, receipt, created_at) values {logs}"
        ))
        .await?;
    shop.request_sync(&host).await?;
    ledger
        .wait_for("select state from sync_jobs where state = 'running' and run_id is not null")
        .await?;
    assert_eq!(host.stop().await?.code(), Some(0), "{}", host.logged());
    let due = ledger.seconds("due_at");
    let job = ledger
        .row(&format!(
            "select state, claimed_by, fence, {due} as due from sync_jobs"
        ))
        .await?;
    assert_eq!(
        (&job["state"], &job["claimed_by"]),
        (&json!("queued"), &Value::Null),
        "{job}"
    );
    assert!(
        job["due"].as_f64().is_some_and(|due| due <= 0.0),
        "due at once: {job}"
    );

    // What hung is mended meanwhile.
    ledger
        .execute("update sync_logs set receipt = 'mended' where receipt = 'sleep-in-host-call'")
        .await?;
    let again = site.host().start().await?;
    ledger
        .wait_for("select state from sync_jobs where state = 'idle'")
        .await?;
    assert_eq!(shop.status(&again).await?["importedOrders"], 2);
    let events = ledger
        .rows("select event from callback_outbox order by event")
        .await?;
    assert_eq!(
        events,
        [
            json!({"event": "sync.completed"}),
            json!({"event": "sync.started"})
        ],
        "one run, told of once"
    );
    Ok(())
}

/// A webhook under way is seen to its end: its receiver is not sent it again.
async fn a_delivery_in_flight_is_settled(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site.host().start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/webhook", listener.local_addr()?);
    let hook = json!({"organizationId": "org-1", "event": "sync.completed", "targetUrl": url});
    assert_eq!(host.post("/webhooks/register", &hook).await?.status, 200);
    let ledger = Ledger::open(&site).await?;
    ledger.put_event("org-1", "sync.completed", "{}").await?;
    let (mut connection, _) = listener.accept().await?;
    let held = ledger
        .row("select state, claimed_by from callback_deliveries")
        .await?;
    assert!(
        held["state"] == "pending" && held["claimed_by"].is_string(),
        "{held}"
    );
    host.signal(Signal::TERM)?;
    host.logged_message(STOPPING).await?;
    let mut request = [0; 4_096];
    assert!(connection.read(&mut request).await? > 0);
    connection
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await?;
    assert_eq!(host.wait().await?.code(), Some(0), "{}", host.logged());
    let settled = ledger
        .row("select state, claimed_by, attempt from callback_deliveries")
        .await?;
    assert_eq!(
        settled,
        json!({"state": "success", "claimed_by": null, "attempt": 1})
    );
    assert_eq!(
        ledger.row("select status from callback_outbox").await?["status"],
        "success"
    );
    Ok(())
}

/// A receiver that never answers does not hold up the end for longer than the grace; its delivery is not lost.
async fn the_grace_ends_and_nothing_is_lost(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site
        .host()
        .env("SHUTDOWN_GRACE", "200ms")
        .env("LEASE", "1s")
        .start()
        .await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/webhook", listener.local_addr()?);
    let hook = json!({"organizationId": "org-1", "event": "sync.completed", "targetUrl": url});
    assert_eq!(host.post("/webhooks/register", &hook).await?.status, 200);
    let ledger = Ledger::open(&site).await?;
    let event = ledger.put_event("org-1", "sync.completed", "{}").await?;
    let held = listener.accept().await?;
    assert_eq!(host.stop().await?.code(), Some(0), "{}", host.logged());
    assert_eq!(
        ledger.row("select state from callback_deliveries").await?["state"],
        "pending"
    );
    let _again = site.host().env("LEASE", "1s").start().await?;
    let (mut connection, _) = tokio::time::timeout(Duration::from_secs(20), listener.accept())
        .await
        .context("sent again")??;
    let mut request = vec![0; 4_096];
    let read = connection.read(&mut request).await?;
    assert!(
        String::from_utf8_lossy(&request[..read]).contains(&event),
        "the same event"
    );
    drop(held);
    Ok(())
}

/// Returns true if a file of the folder holds these bytes.
fn holds(dir: &Path, bytes: &[u8]) -> Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds(&path, bytes)?
        } else {
            std::fs::read(&path)?
                .windows(bytes.len())
                .any(|window| window == bytes)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn secrets_are_neither_stored_nor_logged(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site
        .host()
        .env("WEBHOOK_SECRET", "hush-webhook-secret")
        .env("LOG_LEVEL", "trace")
        .start()
        .await?;
    let receiver = Receiver::start().await?;
    let hook =
        json!({"organizationId": "org-1", "event": "sync.failed", "targetUrl": receiver.url()});
    let secret = host
        .post("/webhooks/register", &hook)
        .await?
        .get("secret")
        .as_str()
        .context("a secret")?
        .to_owned();
    let mut registration = Shop::registration("org-1", "etsy");
    registration["accessToken"] = "hush-access-token".into();
    let shop = Shop::register(&host, &registration).await?;
    shop.import(&host, "order-102").await?;
    shop.status(&host).await?;
    let mock = host
        .request("POST", "/mock/etsy/validate")
        .basic_auth("etsy_user", Some("etsy_pass"));
    assert_eq!(
        mock.json(&json!({"receipt": "1"})).send().await?.status(),
        200
    );
    let bad = host
        .post(
            "/orders/import",
            &json!({"syncToken": shop.sync_token, "receipt": ""}),
        )
        .await?;
    assert_eq!(
        (bad.status, bad.text.contains(&shop.sync_token)),
        (400, false)
    );
    shop.request_sync(&host).await?;
    receiver.wait_for_event("sync.failed").await?;
    let key = secret.trim_start_matches("whsec_");
    let logged = host.logged();
    assert!(logged.lines().count() > 100, "it logs much");
    for hush in [
        "hush-access-token",
        "hush-webhook-secret",
        "etsy_pass",
        "ZXRzeV91c2VyOmV0c3lfcGFzcw",
        key,
        &shop.sync_token,
    ] {
        let line = logged.lines().find(|line| line.contains(hush));
        assert!(
            line.is_none(),
            "{hush} is in the log: {}",
            line.unwrap_or_default()
        );
    }
    let ledger = Ledger::open(&site).await?;
    for sealed in [
        "select access_token as sealed from stores",
        "select secret as sealed from webhook_endpoints",
    ] {
        let sealed = ledger.row(sealed).await?["sealed"].to_string();
        for hush in ["hush-access-token", key] {
            let hex: String = hush.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(
                sealed.len() > 60
                    && !sealed.contains(hush)
                    && !sealed.replace(", ", "").contains(&hex),
                "{sealed}"
            );
        }
    }
    if backend == Backend::Embedded {
        assert!(
            holds(&site.data_dir(), b"order-102")?,
            "the search finds what is stored in the clear"
        );
        for hush in ["hush-access-token", "hush-webhook-secret", key] {
            assert!(!holds(&site.data_dir(), hush.as_bytes())?, "{hush}");
        }
    }
    Ok(())
}

on_every_backend!(
    a_request_in_flight_is_finished,
    a_sync_job_is_given_back,
    a_delivery_in_flight_is_settled,
    the_grace_ends_and_nothing_is_lost,
    secrets_are_neither_stored_nor_logged,
);
