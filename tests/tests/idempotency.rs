//! `Idempotency-Key`: what is not idempotent by itself is done once, and a repeat gets the same answer, from any process.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{Answer, Backend, Host, Ledger, Receiver, Site, on_every_backend};

const REPLAYED: &str = "idempotent-replayed";

/// An endpoint of a host, and requests about it.
struct Hook {
    id: String,
}

impl Hook {
    async fn register(host: &Host, url: &str) -> Result<Self> {
        let body = json!({"organizationId": "org-1", "event": "sync.completed", "targetUrl": url});
        let answer = host.post("/webhooks/register", &body).await?;
        let id = answer.get("id").as_str().map(str::to_owned);
        let id = id.with_context(|| answer.text)?;
        Ok(Self { id })
    }

    /// Posts under this key, as this organization.
    async fn post(&self, host: &Host, action: &str, key: &str, more: Value) -> Result<Answer> {
        let path = format!("/webhooks/{}/{action}", self.id);
        keyed(host, &path, key, more).await
    }
}

async fn keyed(host: &Host, path: &str, key: &str, more: Value) -> Result<Answer> {
    let mut body = json!({"organizationId": "org-1"});
    let members = body.as_object_mut().context("an object")?;
    members.extend(more.as_object().cloned().unwrap_or_default());
    let request = host.request("POST", path).header("Idempotency-Key", key);
    Answer::to(request.json(&body)).await
}

fn check_replay(first: &Answer, again: &Answer) -> Result<()> {
    ensure!(first.header(REPLAYED).is_empty(), "{}", first.text);
    ensure!(
        (again.status, &again.text, again.header(REPLAYED)) == (first.status, &first.text, "true"),
        "{} {}, and then {} {}",
        first.status,
        first.text,
        again.status,
        again.text
    );
    Ok(())
}

async fn a_lost_answer_can_be_asked_for_again(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let receiver = Receiver::start().await?;
    let mut host = site.host().start().await?;
    let hook = Hook::register(&host, receiver.url()).await?;
    let rotated = hook.post(&host, "secret/rotate", "r1", json!({})).await?;
    ensure!(rotated.status == 200, "{} {}", rotated.status, rotated.text);
    let tested = hook.post(&host, "test", "t1", json!({})).await?;
    ensure!(tested.status == 202, "{} {}", tested.status, tested.text);
    receiver.wait_for(1).await?;
    let delivery = tested.json()["deliveryId"].as_str().map(str::to_owned);
    let resend = format!("/deliveries/{}/resend", delivery.context("a delivery")?);
    let resent = keyed(&host, &resend, "s1", json!({})).await?;
    ensure!(resent.status == 202, "{} {}", resent.status, resent.text);
    receiver.wait_for(2).await?;
    let since = json!({"since": "2020-01-01T00:00:00Z"});
    let recovered = hook.post(&host, "recover", "v1", since.clone()).await?;
    ensure!(recovered.status == 200, "{}", recovered.text);
    let redriven = keyed(&host, "/dead-letters/redrive", "d1", json!({})).await?;
    ensure!(redriven.status == 200, "{}", redriven.text);

    // By a process that knows nothing but the database.
    ensure!(host.stop().await?.success(), "{}", host.logged());
    let host = site.host().start().await?;
    check_replay(
        &rotated,
        &hook.post(&host, "secret/rotate", "r1", json!({})).await?,
    )?;
    check_replay(&tested, &hook.post(&host, "test", "t1", json!({})).await?)?;
    check_replay(&resent, &keyed(&host, &resend, "s1", json!({})).await?)?;
    check_replay(&recovered, &hook.post(&host, "recover", "v1", since).await?)?;
    check_replay(
        &redriven,
        &keyed(&host, "/dead-letters/redrive", "d1", json!({})).await?,
    )?;

    let secret = format!("/webhooks/{}/secret?organizationId=org-1", hook.id);
    let shown = host.get(&secret).await?.json();
    ensure!(
        shown["secret"] == rotated.get("secret"),
        "it was rotated once more"
    );
    // Another key is another request; and it comes after whatever would have come of the others.
    hook.post(&host, "test", "t2", json!({})).await?;
    receiver.wait_for(3).await?;
    let sent = Ledger::open(&site).await?;
    let sent = sent
        .row("select count(*) as number from callback_deliveries")
        .await?;
    ensure!(sent["number"] == 2, "{sent}");
    ensure!(receiver.requests().len() == 3, "something was sent twice");
    Ok(())
}

async fn a_key_stands_for_one_request(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let one = Hook::register(&host, "http://127.0.0.1:1/one").await?;
    let two = Hook::register(&host, "http://127.0.0.1:1/two").await?;
    let hour = json!({"overlapSeconds": 3600});
    let first = one.post(&host, "secret/rotate", "k", hour).await?;
    ensure!(first.status == 200, "{}", first.text);
    for other in [
        one.post(&host, "secret/rotate", "k", json!({})).await?,
        two.post(&host, "secret/rotate", "k", json!({"overlapSeconds": 3600}))
            .await?,
    ] {
        ensure!(
            (other.status, other.get("error")) == (422, json!("Idempotency-Key reused")),
            "{} {}",
            other.status,
            other.text
        );
    }
    // Keys belong to the route.
    let test = one.post(&host, "test", "k", json!({})).await?;
    ensure!(test.status == 202, "{}", test.text);
    for bad in ["", &"k".repeat(256)] {
        let refused = one.post(&host, "test", bad, json!({})).await?;
        ensure!(
            refused.status == 400 && refused.get("details")[0]["path"] == "Idempotency-Key",
            "{} {}",
            refused.status,
            refused.text
        );
    }
    Ok(())
}

/// A refusal has done nothing, so that its key is free for the next try.
async fn what_was_refused_may_be_tried_again(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let hook = Hook::register(&host, "http://127.0.0.1:1/").await?;
    let owner = json!({"organizationId": "org-1"});
    let disable = format!("/webhooks/{}/disable", hook.id);
    ensure!(host.post(&disable, &owner).await?.status == 200);
    let refused = hook.post(&host, "test", "k", json!({})).await?;
    ensure!(refused.status == 409, "{} {}", refused.status, refused.text);
    let enable = format!("/webhooks/{}/enable", hook.id);
    ensure!(host.post(&enable, &owner).await?.status == 200);
    let sent = hook.post(&host, "test", "k", json!({})).await?;
    ensure!(sent.status == 202, "{} {}", sent.status, sent.text);
    Ok(())
}

/// Several at once, to two processes where there may be two: one rotates, and nobody is told of another secret.
async fn repeats_at_the_same_time_do_it_once(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().start().await?;
    let other = match backend {
        Backend::Postgres => Some(site.host().start().await?),
        Backend::Embedded => None,
    };
    let hook = Hook::register(&host, "http://127.0.0.1:1/").await?;
    let hosts = [&host, other.as_ref().unwrap_or(&host)];
    let rotations = (0..8).map(|n| hook.post(hosts[n % 2], "secret/rotate", "k", json!({})));
    let answers = futures::future::try_join_all(rotations).await?;
    let done: Vec<_> = answers.iter().filter(|one| one.status == 200).collect();
    ensure!(!done.is_empty(), "somebody did it");
    ensure!(done.iter().all(|one| one.text == done[0].text));
    for told in answers.iter().filter(|one| one.status != 200) {
        ensure!(
            told.status == 409 && !told.header("retry-after").is_empty(),
            "{} {}",
            told.status,
            told.text
        );
    }
    let path = format!("/webhooks/{}/secret?organizationId=org-1", hook.id);
    let shown = host.get(&path).await?.json();
    ensure!(shown["secret"] == done[0].get("secret"), "{shown}");
    let overlaps = shown["previousSecretsUntil"].as_array().map(Vec::len);
    ensure!(overlaps == Some(1), "it was rotated {overlaps:?} times");
    Ok(())
}

on_every_backend!(
    a_lost_answer_can_be_asked_for_again,
    a_key_stands_for_one_request,
    what_was_refused_may_be_tried_again,
    repeats_at_the_same_time_do_it_once,
);
