//! Receivers as they should not be. Each delivery ends in the documented state within the documented time, no worker
//! hangs, memory stays flat, and well-behaved receivers notice nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{
    Backend, Host, PATIENCE, RawServer, Receiver, Site, eventually, on_every_backend,
    zoo::{self, Animal, Certificates, Next},
};

/// Of one attempt in all (`WEBHOOK_TIMEOUT`).
const TIMEOUT: Duration = Duration::from_secs(2);
/// A busy machine's delay on top of it.
const SLACK: Duration = Duration::from_secs(8);
/// Seconds by which the next attempt may be late. Half of the shortest wait, so that no wait passes for another.
const LATE_S: i64 = WAIT_S / 2;
/// The wait after a first failure: the original's schedule has no jitter.
const WAIT_S: i64 = 60;

async fn host(site: &std::sync::Arc<Site>, certificates: &Certificates) -> Result<Host> {
    site.host()
        .env("WEBHOOK_TIMEOUT", "2s")
        .env(
            "SSL_CERT_FILE",
            certificates.authority_file().to_str().context("a path")?,
        )
        .start()
        .await
}

async fn register(host: &Host, organization: &str, url: &str) -> Result<String> {
    let body = json!({"organizationId": organization, "event": "sync.completed", "targetUrl": url});
    let answer = host.post("/webhooks/register", &body).await?;
    answer
        .get("id")
        .as_str()
        .map(str::to_owned)
        .with_context(|| answer.text)
}

/// Sends a test event: its delivery's id.
async fn send(host: &Host, organization: &str, webhook: &str) -> Result<String> {
    let answer = host
        .post(
            &format!("/webhooks/{webhook}/test"),
            &json!({"organizationId": organization}),
        )
        .await?;
    answer
        .get("deliveryId")
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("{}\n{}", answer.text, host.logged()))
}

/// The delivery after its first attempt.
async fn attempted(host: &Host, organization: &str, delivery: &str) -> Result<Value> {
    let look = || async {
        let answer = host
            .get(&format!(
                "/deliveries/{delivery}?organizationId={organization}"
            ))
            .await
            .ok()?;
        Some(answer.json()).filter(|delivery| {
            delivery["attempts"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
        })
    };
    eventually("an attempt", PATIENCE, look).await
}

/// Checks the time of the next attempt. It is reckoned from the moment at which the attempt was settled, which a busy
/// machine delays: it may be up to [`LATE_S`] later than documented, and not sooner.
fn check_next(next: Next, delivery: &Value) -> Result<()> {
    let second = |value: &Value| {
        let time = value.as_str().context("a time")?;
        Ok::<_, anyhow::Error>(time.parse::<jiff::Timestamp>()?.as_second())
    };
    let shown = &delivery["nextAttemptAt"];
    let expected = match next {
        Next::Never => {
            ensure!(shown.is_null(), "there is a next attempt");
            return Ok(());
        }
        Next::AfterSeconds(wait) => second(&delivery["attempts"][0]["startedAt"])? + wait,
        Next::At(date) => date.as_second(),
    };
    let late = second(shown)? - expected;
    ensure!(
        (0..=LATE_S).contains(&late),
        "{late} s later than documented"
    );
    Ok(())
}

fn check(animal: &Animal, delivery: &Value) -> Result<()> {
    let attempt = &delivery["attempts"][0];
    let told = || format!("{}: {delivery:#}", animal.name);
    ensure!(
        delivery["attempts"].as_array().map(Vec::len) == Some(1),
        "{}",
        told()
    );
    ensure!(
        delivery["state"] == animal.state,
        "state, not {}: {}",
        animal.state,
        told()
    );
    ensure!(
        attempt["httpStatus"].as_i64() == animal.status,
        "status, not {:?}: {}",
        animal.status,
        told()
    );
    let error = attempt["error"].as_str().unwrap_or_default();
    ensure!(
        error.contains(animal.error) && error.is_empty() == animal.error.is_empty(),
        "error: {}",
        told()
    );
    let latency =
        Duration::from_secs_f64(attempt["latencyMs"].as_f64().context("a latency")? / 1_000.0);
    ensure!(
        latency <= TIMEOUT + SLACK,
        "it took {latency:?}: {}",
        told()
    );
    ensure!(!error.contains("internal"), "error: {}", told());
    let kept = attempt["response"].as_str().unwrap_or_default();
    ensure!(
        kept.len() <= 3 * 16 * 1024,
        "it kept {} bytes of the answer",
        kept.len()
    );
    check_next(animal.next, delivery).with_context(told)?;
    Ok(())
}

async fn every_receiver_ends_as_documented(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let certificates = Certificates::write(site.dir())?;
    let host = host(&site, &certificates).await?;
    let trap = RawServer::start("127.0.0.1", |_| async { Ok(()) }).await?;
    let mut zoo = zoo::all(&trap, &certificates, WAIT_S).await?;
    zoo.extend(zoo::heads(&certificates, WAIT_S).await?);
    let mut visits = Vec::new();
    for animal in &zoo {
        // An organization each: what fails must not take the places of the next.
        let webhook = register(&host, animal.name, &animal.url).await?;
        let delivery = send(&host, animal.name, &webhook).await?;
        visits.push((animal, webhook, delivery));
    }
    for (animal, webhook, delivery) in visits {
        check(animal, &attempted(&host, animal.name, &delivery).await?)?;
        let shown = host
            .get(&format!(
                "/webhooks/{webhook}?organizationId={}",
                animal.name
            ))
            .await?
            .json();
        let reason = shown["disabledReason"].as_str().unwrap_or_default();
        ensure!(
            shown["isActive"] == (animal.status != Some(410)),
            "{}: {shown}",
            animal.name
        );
        ensure!(
            reason.contains("410") == (animal.status == Some(410)),
            "{}: {shown}",
            animal.name
        );
    }
    ensure!(trap.connections() == 0, "a redirect was followed");
    for animal in &zoo {
        animal.left_alone().await?;
    }
    Ok(())
}

async fn a_zoo_full_of_work_costs_neither_workers_nor_memory(backend: Backend) -> Result<()> {
    const ROUNDS: usize = 12;
    const MAX_GROWTH_KIB: i64 = 96 * 1024;
    let site = Site::open(backend).await?;
    let certificates = Certificates::write(site.dir())?;
    let mut host = host(&site, &certificates).await?;
    let trap = RawServer::start("127.0.0.1", |_| async { Ok(()) }).await?;
    let zoo = zoo::all(&trap, &certificates, WAIT_S).await?;
    let good = Receiver::start().await?;
    let good_webhook = register(&host, "good", good.url()).await?;
    let mut webhooks = Vec::new();
    for animal in zoo.iter().filter(|animal| animal.status != Some(410)) {
        webhooks.push((
            animal.name,
            register(&host, animal.name, &animal.url).await?,
        ));
    }
    for (organization, webhook) in &webhooks {
        send(&host, organization, webhook).await?;
    }
    send(&host, "good", &good_webhook).await?;
    good.wait_for(1).await?;
    let before = host.resident_kib()?;
    for round in 0..ROUNDS {
        for (organization, webhook) in &webhooks {
            send(&host, organization, webhook).await?;
        }
        send(&host, "good", &good_webhook).await?;
        good.wait_for(round + 2).await?;
    }
    // Every endpoint is either served or paused by its circuit.
    for (organization, _) in &webhooks {
        let served = || async {
            let answer = host
                .get(&format!("/webhooks?organizationId={organization}"))
                .await
                .ok()?
                .json();
            let deliveries = format!(
                "/webhooks/{}/deliveries?limit=100&organizationId={organization}",
                answer[0]["id"].as_str()?
            );
            let deliveries = host.get(&deliveries).await.ok()?.json();
            let idle = deliveries["items"]
                .as_array()?
                .iter()
                .all(|one| one["attempt"] != 0);
            (idle || !answer[0]["health"]["pausedUntil"].is_null()).then_some(())
        };
        eventually(
            &format!("{organization} is served or paused"),
            3 * PATIENCE,
            served,
        )
        .await?;
    }
    let growth = host.resident_kib()? - before;
    ensure!(growth < MAX_GROWTH_KIB, "memory grew by {growth} KiB");
    ensure!(trap.connections() == 0, "a redirect was followed");
    ensure!(
        host.stop().await?.success(),
        "it does not end well:\n{}",
        host.logged()
    );
    Ok(())
}

on_every_backend!(
    every_receiver_ends_as_documented,
    a_zoo_full_of_work_costs_neither_workers_nor_memory
);
