//! The key that secrets are encrypted with: a wrong one starts nothing, a lost one is missed, a new one comes in while
//! the host works, and what no key opens harms nobody.

mod rotation;

use std::{collections::BTreeSet, fs, sync::Arc};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wharf_tests::{
    Answer, Backend, Host, HostBuilder, Ledger, Receiver, Request, Shop, Site, on_every_backend,
};

const OLD: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
const NEW: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";

fn with_key(site: &Arc<Site>, key: &str) -> HostBuilder {
    site.host().env("WHARF_ENCRYPTION_KEY", key)
}

async fn register(host: &Host, url: &str) -> Result<(String, String)> {
    let body = json!({"organizationId": "org", "event": "sync.completed", "targetUrl": url,
        "asymmetric": true});
    let answer = host.post("/webhooks/register", &body).await?;
    let text = |name| {
        answer
            .get(name)
            .as_str()
            .map(str::to_owned)
            .with_context(|| answer.text.clone())
    };
    Ok((text("id")?, text("secret")?))
}

async fn act(host: &Host, webhook: &str, action: &str) -> Result<Answer> {
    let path = format!("/webhooks/{webhook}/{action}");
    host.post(&path, &json!({"organizationId": "org"})).await
}

async fn public_key(host: &Host, webhook: &str) -> Result<Value> {
    let path = format!("/webhooks/{webhook}/secret?organizationId=org");
    let answer = host.get(&path).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    Ok(answer.get("publicKey"))
}

fn verifies(request: &Request, secret: &str) -> bool {
    let reader = standardwebhooks::Webhook::new(secret).expect("a secret");
    reader.verify(&request.body, &request.headers).is_ok()
}

/// What `wharf keys status --json` says, by key id.
async fn status(site: &Arc<Site>, keys: &str) -> Result<Vec<Value>> {
    let command = with_key(site, keys).command(&["keys", "status", "--json"]);
    let (ended, printed) = command.run().await?;
    ensure!(ended.success(), "{printed}");
    let printed: Value = serde_json::from_str(&printed).context(printed)?;
    printed["keys"].as_array().cloned().context("keys")
}

/// A key's id: the beginning of its SHA-256.
fn id_of(key: &str) -> String {
    let bytes = [u8::from_str_radix(&key[..2], 16).expect("hexadecimal digits"); 32];
    let hash = Sha256::digest(bytes);
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A host that has sealed a token and a secret with the old key, and was stopped.
async fn sealed_with_old(backend: Backend) -> Result<Arc<Site>> {
    let site = Site::open(backend).await?;
    let mut host = with_key(&site, OLD).start().await?;
    Shop::open(&host, "org", "etsy").await?;
    register(&host, "http://127.0.0.1:9/hook").await?;
    ensure!(host.stop().await?.success());
    Ok(site)
}

const EVERY_ROLE: [&[&str]; 11] = [
    &["serve"],
    &["serve", "--role", "api"],
    &["serve", "--role", "sync-worker"],
    &["serve", "--role", "sync-scheduler"],
    &["serve", "--role", "callback-worker"],
    &["serve", "--role", "callback-scheduler"],
    &["worker", "sync"],
    &["worker", "callback"],
    &["scheduler", "sync"],
    &["scheduler", "callback", "--loop"],
    &["keys", "reseal"],
];

async fn a_wrong_key_starts_no_role(backend: Backend) -> Result<()> {
    let site = sealed_with_old(backend).await?;
    let (old, new) = (id_of(OLD), id_of(NEW));
    let ledger = Ledger::open(&site).await?;
    // With a canary, and as a version without canaries left the database.
    for forget in ["select 1", "delete from key_canaries"] {
        ledger.execute(forget).await?;
        for command in EVERY_ROLE {
            let (ended, said) = with_key(&site, NEW).command(command).run().await?;
            ensure!(!ended.success(), "{command:?} starts: {said}");
            for part in ["WHARF_ENCRYPTION_KEY", &old, &new, "wharf keys reseal"] {
                ensure!(
                    said.contains(part),
                    "{command:?} says nothing of {part}: {said}"
                );
            }
        }
    }
    let mut host = with_key(&site, OLD).start().await?;
    ensure!(host.stop().await?.success(), "the right key still fits");
    Ok(())
}

async fn a_lost_key_file_is_not_replaced(backend: Backend) -> Result<()> {
    if backend == Backend::Postgres {
        // There the key is always a setting.
        let site = sealed_with_old(backend).await?;
        let unset = site.host().without_env("WHARF_ENCRYPTION_KEY");
        let (ended, said) = unset.run().await?;
        ensure!(
            !ended.success() && said.contains("WHARF_ENCRYPTION_KEY"),
            "{said}"
        );
        return Ok(());
    }
    let site = Site::open(backend).await?;
    let mut host = site.host().start().await?;
    Shop::open(&host, "org", "etsy").await?;
    ensure!(host.stop().await?.success());
    let (file, away) = (site.data_dir().join("key"), site.dir().join("key-away"));
    fs::rename(&file, &away)?;
    let ledger = Ledger::open(&site).await?;
    for forget in ["select 1", "delete from key_canaries"] {
        ledger.execute(forget).await?;
        for command in [&["serve"][..], &["worker", "callback"], &["keys", "reseal"]] {
            let (ended, said) = site.host().command(command).run().await?;
            ensure!(!ended.success(), "{command:?} starts: {said}");
            ensure!(
                said.contains("key file") && said.contains("is missing"),
                "{said}"
            );
            ensure!(!file.exists(), "{command:?} made a new key");
        }
    }
    fs::rename(&away, &file)?;
    let mut host = site.host().start().await?;
    ensure!(host.stop().await?.success());
    Ok(())
}

/// Makes an endpoint's secret one of a key that nobody has.
async fn seal_with_a_strange_key(ledger: &Ledger, backend: Backend, webhook: &str) -> Result<()> {
    let secret = match backend {
        Backend::Embedded => {
            "cast(substr(secret, 1, 1) || x'0102030405060708' || substr(secret, 10) as blob)"
        }
        Backend::Postgres => r"overlay(secret placing '\x0102030405060708' from 2)",
    };
    let id = ledger.id(webhook);
    let sql = format!("update webhook_endpoints set secret = {secret} where id = {id}");
    ensure!(ledger.execute(&sql).await? == 1);
    Ok(())
}

async fn what_no_key_opens_is_deleted_and_rotated(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let receiver = Receiver::start().await?;
    let host = with_key(&site, OLD).start().await?;
    let ledger = Ledger::open(&site).await?;
    let (kept, _) = register(&host, &format!("{}/kept", receiver.url())).await?;
    let (gone, _) = register(&host, &format!("{}/gone", receiver.url())).await?;
    for webhook in [&kept, &gone] {
        seal_with_a_strange_key(&ledger, backend, webhook).await?;
    }
    // It cannot be shown and cannot be bound to another URL; everything else works.
    let secret = host
        .get(&format!("/webhooks/{kept}/secret?organizationId=org"))
        .await?;
    ensure!(secret.status == 409, "{} {}", secret.status, secret.text);
    let change = |change: Value| {
        let body = host
            .request("PATCH", &format!("/webhooks/{kept}"))
            .json(&change);
        Answer::to(body)
    };
    let moved = change(json!({"organizationId": "org", "targetUrl": "http://127.0.0.1:9/x"}));
    let moved = moved.await?;
    ensure!(moved.status == 409, "{} {}", moved.status, moved.text);
    let changed = change(json!({"organizationId": "org", "ratePerMinute": 600})).await?;
    ensure!(changed.status == 200, "{} {}", changed.status, changed.text);

    // Its deliveries wait, and nothing is held against the receiver.
    let tested = act(&host, &kept, "test").await?;
    let delivery = tested
        .get("deliveryId")
        .as_str()
        .context("an id")?
        .to_owned();
    let id = ledger.id(&delivery);
    let row = format!("select * from callback_deliveries where id = {id}");
    ledger.wait_for(&format!("{row} and fence > 1")).await?;
    let waiting = ledger.row(&row).await?;
    ensure!(
        waiting["state"] == "pending" && waiting["attempt"] == 0,
        "{waiting}"
    );
    ensure!(
        ledger
            .number("select count(*) from callback_attempts")
            .await?
            == 0
    );
    let shown = host
        .get(&format!("/webhooks/{kept}?organizationId=org"))
        .await?;
    ensure!(
        shown.json()["health"]["consecutiveFailures"] == 0,
        "{}",
        shown.text
    );
    ensure!(receiver.requests().is_empty());

    let rotated = act(&host, &kept, "secret/rotate").await?;
    ensure!(rotated.status == 200, "{} {}", rotated.status, rotated.text);
    ensure!(rotated.get("publicKey").is_string(), "{}", rotated.text);
    let secret = rotated
        .get("secret")
        .as_str()
        .context("a secret")?
        .to_owned();
    let request = receiver.wait_for(1).await?.remove(0);
    ensure!(verifies(&request, &secret));
    let delete = host.request("DELETE", &format!("/webhooks/{gone}?organizationId=org"));
    let deleted = Answer::to(delete).await?;
    ensure!(deleted.status < 300, "{} {}", deleted.status, deleted.text);
    Ok(())
}

async fn a_lost_key_can_be_given_up(backend: Backend) -> Result<()> {
    let site = sealed_with_old(backend).await?;
    let (old, new) = (id_of(OLD), id_of(NEW));
    let abandon =
        |key: &str, id: &str| with_key(&site, key).command(&["keys", "abandon", id]).run();
    for (key, id) in [(OLD, &old), (NEW, &new), (NEW, &"0".repeat(16))] {
        let (ended, said) = abandon(key, id).await?;
        ensure!(!ended.success(), "{said}");
    }
    let (ended, said) = abandon(NEW, &old).await?;
    ensure!(ended.success(), "{said}");
    let host = with_key(&site, NEW).start().await?;
    let shop = Shop::open(&host, "org", "etsy").await?;
    shop.import(&host, "order-101").await?;
    let in_use = status(&site, NEW).await?;
    let ids: BTreeSet<&str> = in_use
        .iter()
        .filter_map(|line| line["keyId"].as_str())
        .collect();
    ensure!(
        ids == BTreeSet::from([old.as_str(), new.as_str()]),
        "{in_use:?}"
    );
    Ok(())
}

on_every_backend!(
    a_wrong_key_starts_no_role,
    a_lost_key_file_is_not_replaced,
    what_no_key_opens_is_deleted_and_rotated,
    a_lost_key_can_be_given_up,
);
