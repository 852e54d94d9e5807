//! The limits of one client: a rate and a number of requests in work, and what is exempt from both.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Mutex};
use wharf_tests::{Answer, Backend, Host, PATIENCE, Site, eventually, on_every_backend};

const RATE: usize = 2;
const BURST: usize = 10;
const LIST: &str = "/webhooks?organizationId=org-1";

async fn ask_at_once(host: &Host, path: &str, times: usize) -> Result<Vec<Answer>> {
    future::try_join_all((0..times).map(|_| host.get(path))).await
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|one| one.status == status).count()
}

async fn a_client_has_a_rate(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let limited = site
        .host()
        .env("CLIENT_RATE", &RATE.to_string())
        .env("CLIENT_BURST", &BURST.to_string());
    let host = limited.start().await?;
    let began = std::time::Instant::now();
    let answers = ask_at_once(&host, LIST, 5 * BURST).await?;
    let most = BURST + RATE * began.elapsed().as_secs_f64().ceil() as usize;
    let served = count(&answers, 200);
    assert!(
        (BURST..=most).contains(&served),
        "{served} of at most {most}"
    );
    let refused: Vec<_> = answers.iter().filter(|one| one.status != 200).collect();
    for one in &refused {
        assert_eq!(one.status, 429, "{}", one.text);
        let expected =
            json!({"error": "Too many requests", "message": "this client asks too often"});
        assert_eq!(one.json(), expected);
        let wait: u64 = one.header("retry-after").parse().context("whole seconds")?;
        assert!((1..=2).contains(&wait), "{wait}");
    }
    // What is refused costs nothing: with the next second there are as many as the rate says.
    let free = || async { (host.get(LIST).await.ok()?.status == 200).then_some(()) };
    eventually("the next request is served", PATIENCE, free).await?;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answers = ask_at_once(&host, path, 3 * BURST).await?;
        assert_eq!(count(&answers, 200), answers.len(), "{path}");
    }
    let scrape = host.scrape().await?;
    let counted = scrape.value("wharf_http_requests_limited_total", &[("reason", "rate")]);
    assert!(counted >= refused.len() as f64, "{counted}");
    Ok(())
}

/// An organization is one client, whatever key it sends; a key that lets nobody in is its address's.
async fn an_organization_has_a_rate_of_its_own(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let limited = site
        .host()
        .guarded()
        .env("CLIENT_RATE", "1")
        .env("CLIENT_BURST", &BURST.to_string());
    let host = limited.start().await?;
    let mut keys = Vec::new();
    for organization in ["loud", "loud", "quiet"] {
        keys.push(host.create_key(organization, "webhooks:read").await?);
    }
    let made_up = "wharf_org_made-up";
    let ask = async |key: &str, times: usize| {
        let one = || Answer::to(host.request("GET", "/webhooks").bearer_auth(key));
        future::try_join_all((0..times).map(|_| one())).await
    };
    let loud = ask(&keys[0], 5 * BURST).await?;
    assert!(count(&loud, 200) >= BURST && count(&loud, 429) >= BURST);
    let other_key = ask(&keys[1], BURST).await?;
    assert!(count(&other_key, 429) >= BURST / 2, "its budget is spent");
    let strangers = ask(made_up, 5 * BURST).await?;
    assert!(count(&strangers, 401) >= BURST && count(&strangers, 429) >= BURST);
    assert_eq!(count(&strangers, 401) + count(&strangers, 429), 5 * BURST);
    let quiet = ask(&keys[2], BURST).await?;
    assert_eq!(count(&quiet, 200), BURST, "nobody else is refused");
    Ok(())
}

async fn a_client_has_so_many_requests_in_work(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().env("CLIENT_CONCURRENCY", "2").start().await?;
    let head = "POST /stores/register HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        content-length: 100\r\n\r\n{";
    let held = Mutex::new(Vec::new());
    // One more half request at each try: one that came while the question itself was in work was refused.
    let refused = || async {
        let mut half = TcpStream::connect(host.base_url().trim_start_matches("http://"))
            .await
            .ok()?;
        half.write_all(head.as_bytes()).await.ok()?;
        held.lock().await.push(half);
        let answer = host.get(LIST).await.ok()?;
        (answer.status == 429).then_some(answer)
    };
    let refused = eventually("both are in work", PATIENCE, refused).await?;
    let expected = json!({"error": "Too many requests", "message": "this client has too many requests in work"});
    assert_eq!(
        (refused.json(), refused.header("retry-after")),
        (expected, "1")
    );
    assert_eq!(host.get("/healthz").await?.status, 200);
    held.lock().await.clear();
    let free = || async { (host.get(LIST).await.ok()?.status == 200).then_some(()) };
    eventually("a place is free again", Duration::from_secs(2), free).await
}

async fn this_machine_has_no_rate_by_default(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    for _ in 0..30 {
        let answers = ask_at_once(&host, "/nowhere", 100).await?;
        assert_eq!(count(&answers, 404), 100);
    }
    Ok(())
}

on_every_backend!(
    a_client_has_a_rate,
    an_organization_has_a_rate_of_its_own,
    a_client_has_so_many_requests_in_work,
    this_machine_has_no_rate_by_default,
);
