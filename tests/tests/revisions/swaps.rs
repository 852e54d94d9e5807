//! A hundred swaps and rollbacks while clients import: no order fails and none is asked twice.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wharf_tests::{
    Backend, Host, Ledger, Receiver, Request, Shop, Site, built_plugin, on_every_backend,
};

use super::{digest, drop_in, revision, swapped};

const SWAPS: usize = 100;
/// One of these swaps is rolled back.
const ROLLED_BACK: usize = 5;
const CLIENTS: usize = 2;

/// A marketplace that knows every receipt, and keeps what it was asked.
async fn marketplace() -> Result<(Receiver, String)> {
    let upstream = Receiver::start().await?;
    upstream.answer_with(|request: &Request| {
        let id = request.json()["receipt"].clone();
        json!({"status": true, "orderId": id, "amount": 12.5, "currency": "USD", "importedAtUTC": "2024-01-01T12:00:00Z"})
            .to_string()
    });
    let origin = upstream.url().trim_end_matches("/webhook").to_owned();
    let grants = format!(
        "origins = ['{origin}']\nprivate_networks = ['127.0.0.0/8']\n[config]\nbase_url = '{origin}'\n\
         marketplace = 'etsy'\nserve_as = 'remote'\n[credentials.marketplace]\nscheme = 'bearer'\n\
         token = {{ store = 'access-token' }}\n"
    );
    Ok((upstream, grants))
}

/// Imports without a pause until it is told to stop; returns how many orders it was promised.
async fn import_all_the_time(
    host: Arc<Host>,
    shop: Shop,
    client: usize,
    stop: Arc<AtomicBool>,
) -> Result<usize> {
    let mut imported = 0;
    while !stop.load(Ordering::Relaxed) {
        let receipt = format!("{client}-{imported}");
        let answer = shop.import(&host, &receipt).await?;
        ensure!(
            answer["success"] == true && answer["orderId"] == receipt,
            "{receipt}: {answer}"
        );
        imported += 1;
    }
    Ok(imported)
}

/// By turns through the admin API and through the folder; some are rolled back. Returns every revision that served.
async fn swap_all_the_time(host: &Host) -> Result<BTreeSet<String>> {
    let component = fs::read(built_plugin("http-marketplace"))?;
    let mut served = BTreeSet::from([digest(host, "remote").await?]);
    for swap in 1..=SWAPS {
        let before = digest(host, "remote").await?;
        let next = revision(&component, u8::try_from(swap % 4)?);
        if swap % 2 == 0 {
            let answer = host.admin().push("remote", &next, None).await?;
            ensure!(
                answer.status == 200,
                "swap {swap}: {} {}",
                answer.status,
                answer.text
            );
        } else {
            drop_in(host.site(), "remote", &next)?;
        }
        served.insert(
            swapped(host, "remote", &before)
                .await
                .with_context(|| format!("swap {swap}"))?,
        );
        if swap % ROLLED_BACK == 0 {
            let back = host.admin().roll_back("remote").await?;
            ensure!(
                back["digest"] == before,
                "swap {swap} was not rolled back to {before}: {back}"
            );
        }
    }
    Ok(served)
}

async fn swaps_and_rollbacks_under_load_hurt_no_order(backend: Backend) -> Result<()> {
    let (upstream, grants) = marketplace().await?;
    let site = Site::open(backend).await?;
    fs::write(site.plugins_dir().join("remote.toml"), grants)?;
    site.install_plugin("remote", &built_plugin("http-marketplace"))?;
    let host = Arc::new(site.host().start().await?);
    let shop = Shop::open(&host, "org-1", "remote").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            tokio::spawn(import_all_the_time(
                host.clone(),
                shop.clone(),
                client,
                stop.clone(),
            ))
        })
        .collect();
    let served = swap_all_the_time(&host).await;
    stop.store(true, Ordering::Relaxed);
    let mut imported = 0;
    for client in clients {
        imported += client.await?.context("0 failed calls")?;
    }
    let served = served?;
    assert_eq!(served.len(), 5, "four revisions beside the first");

    let asked: Vec<String> = upstream
        .requests()
        .iter()
        .map(|request| request.json()["receipt"].to_string())
        .collect();
    let receipts: BTreeSet<_> = asked.iter().collect();
    assert_eq!(
        (asked.len(), receipts.len()),
        (imported, imported),
        "0 doubled calls"
    );
    let ledger = Ledger::open(&site).await?;
    let stored = ledger
        .row("select count(*) as n from sync_logs where status = 'success' and attempt = 1")
        .await?;
    assert_eq!(stored, json!({"n": imported}));
    let digests = ledger
        .rows("select distinct plugin_digest from sync_logs")
        .await?;
    let told: BTreeSet<_> = digests
        .iter()
        .filter_map(|row| row["plugin_digest"].as_str().map(String::from))
        .collect();
    assert!(
        told.len() > 1 && told.is_subset(&served),
        "orders name the revisions that made them: {told:?}"
    );
    let rolled_back = "select count(*) as n from plugin_transitions where to_state = 'active' and reason = 'rolled back'";
    ledger
        .wait_for(&format!(
            "select * from ({rolled_back}) r where n = {}",
            SWAPS / ROLLED_BACK
        ))
        .await?;
    eprintln!("{imported} imports during {SWAPS} swaps");
    Ok(())
}

on_every_backend!(swaps_and_rollbacks_under_load_hurt_no_order);
