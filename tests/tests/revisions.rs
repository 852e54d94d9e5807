//! Revisions of plugins on a running host: swapped under load, refused, deferred, put aside. No order is hurt by any of it.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use faults::{Fault, LIMITS, faults};
use serde_json::{Value, json};
use wharf_tests::{
    Backend, Host, Ledger, PATIENCE, Receiver, Request, Shop, Site, built_plugin, eventually,
    guest, on_every_backend,
};

const SWAPS: usize = 100;
/// One of these swaps is rolled back.
const ROLLED_BACK: usize = 5;
const CLIENTS: usize = 2;

/// The same code under another digest: custom sections say nothing to the machine.
fn revision(component: &[u8], number: u8) -> Vec<u8> {
    [component, &[0, 3, 1, b'n', number]].concat()
}

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

/// Puts a component in its place, beside first and renamed.
fn drop_in(site: &Site, plugin: &str, component: &[u8]) -> Result<()> {
    let beside = site.dir().join(format!("{plugin}.new"));
    fs::write(&beside, component)?;
    Ok(fs::rename(
        beside,
        site.plugins_dir().join(format!("{plugin}.wasm")),
    )?)
}

async fn digest(host: &Host, plugin: &str) -> Result<String> {
    let plugin = host.admin().plugin(plugin).await?;
    Ok(plugin["digest"]
        .as_str()
        .context("nothing serves")?
        .to_owned())
}

/// Waits until another revision serves.
async fn swapped(host: &Host, plugin: &str, before: &str) -> Result<String> {
    let other = || async {
        digest(host, plugin)
            .await
            .ok()
            .filter(|digest| digest != before)
    };
    eventually("another revision serves", PATIENCE, other).await
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

fn of_cargo(name: &str) -> Vec<u8> {
    fs::read(guest(name)).expect("a component")
}

/// The parts of a refusal.
fn refusal(answer: &Value) -> (String, String) {
    let details = answer["details"].as_array().into_iter().flatten();
    let part = |path: &str| {
        details
            .clone()
            .find(|detail| detail["path"] == path)
            .map(|detail| &detail["message"])
    };
    let text = |path: &str| {
        part(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    (text("stage"), text("cause").to_lowercase())
}

async fn faulty_plugins_are_refused_while_the_old_one_serves(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let before = digest(&host, "etsy").await?;
    for (number, fault) in faults().iter().enumerate() {
        let Fault {
            name,
            stage,
            reason,
            ..
        } = fault;
        let answer = host
            .admin()
            .push("etsy", &fault.build(of_cargo), Some(LIMITS))
            .await?;
        if *name == "too-large" {
            assert_eq!(answer.status, 413, "{name}: {}", answer.text);
        } else {
            let (at, cause) = refusal(&answer.json());
            let stopped = answer.status == 422 && at == stage.word() && cause.contains(reason);
            assert!(
                stopped,
                "{name}, to be stopped at {}: {} {}",
                stage.word(),
                answer.status,
                answer.text
            );
        }
        let order = shop.import(&host, &format!("order-{number}-a1")).await?;
        assert_eq!(order["success"], true, "after {name}: {order}");
        assert_eq!(digest(&host, "etsy").await?, before, "after {name}");
    }
    let served = Ledger::open(host.site())
        .await?
        .rows("select distinct plugin_digest as digest from sync_logs")
        .await?;
    assert_eq!(
        served,
        [json!({"digest": before})],
        "no order was served by another revision"
    );
    Ok(())
}

/// The first fault of each stage comes as a file.
async fn faulty_files_are_refused_while_the_old_one_serves(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let before = digest(&host, "etsy").await?;
    let mut stages = BTreeSet::new();
    for fault in faults() {
        let Fault {
            name,
            stage,
            reason,
            ..
        } = fault;
        if !stages.insert(stage.word()) {
            continue;
        }
        drop_in(host.site(), "etsy", &fault.build(of_cargo))?;
        let refused = || async {
            let plugin = host.admin().plugin("etsy").await.ok()?;
            let (at, cause) = (
                &plugin["refusal"]["stage"],
                plugin["refusal"]["cause"].as_str()?.to_lowercase(),
            );
            (plugin["state"] == "refused" && at == stage.word() && cause.contains(reason))
                .then_some(plugin)
        };
        let plugin = eventually(&format!("{name} is refused"), PATIENCE, refused).await?;
        assert_eq!(plugin["digest"], before, "the old revision serves on");
        assert_eq!(
            shop.import(&host, &format!("order-{name}-a1")).await?["success"],
            true,
            "{name}"
        );
    }
    assert_eq!(stages.len(), 5);
    drop_in(
        host.site(),
        "etsy",
        &revision(&fs::read(built_plugin("etsy"))?, 1),
    )?;
    let after = swapped(&host, "etsy", &before).await?;
    assert_eq!(
        shop.import(&host, "order-mended-a1").await?["success"],
        true
    );
    assert_eq!(digest(&host, "etsy").await?, after);
    Ok(())
}

/// Every state of a revision, each with an audited row that says why and who.
async fn every_step_is_audited(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let admin = host.admin();
    let good = fs::read(built_plugin("etsy"))?;
    let first = digest(&host, "etsy").await?;
    for (component, status) in [(revision(&good, 1), 200), (good[..1_000].to_vec(), 422)] {
        assert_eq!(admin.push("etsy", &component, None).await?.status, status);
    }
    let second = digest(&host, "etsy").await?;
    let wishing = fs::read(built_plugin("http-marketplace"))?;
    let waiting = admin.push("wishing", &wishing, None).await?;
    assert_eq!(
        (waiting.status, waiting.get("error")),
        (422, json!("Plugin needs approval"))
    );
    admin
        .change("etsy", "disable", json!({"reason": "the shop moves"}))
        .await?;
    admin.change("etsy", "enable", json!({})).await?;
    admin
        .change(
            "etsy",
            "quarantine",
            json!({"digest": second, "reason": "it is odd"}),
        )
        .await?;
    assert_eq!(digest(&host, "etsy").await?, first, "the one before serves");
    admin
        .change("etsy", "release", json!({"digest": second}))
        .await?;
    admin
        .change("etsy", "activate", json!({"digest": second}))
        .await?;
    admin.roll_back("etsy").await?;

    let ledger = Ledger::open(host.site()).await?;
    let steps = "select digest, from_state, to_state, reason, actor from plugin_transitions where reason <> '' and actor <> ''";
    let every = [
        "staged",
        "verified",
        "compiled",
        "conformant",
        "needs-approval",
        "active",
        "draining",
        "retained",
        "refused",
        "quarantined",
        "disabled",
    ];
    for state in every {
        let audited = || async {
            ledger
                .rows(&format!("{steps} and to_state = '{state}'"))
                .await
                .ok()?
                .pop()
        };
        eventually(&format!("{state} is audited"), PATIENCE, audited).await?;
    }
    let told = |reason: &'static str, to: &'static str, actor: &'static str| {
        let ledger = &ledger;
        async move {
            let row = format!(
                "{steps} and reason = '{reason}' and to_state = '{to}' and actor = '{actor}'"
            );
            ledger
                .wait_for(&row)
                .await
                .with_context(|| format!("{reason} is audited"))
        }
    };
    told("the shop moves", "disabled", "admin").await?;
    assert_eq!(
        told("it is odd", "quarantined", "admin").await?["digest"],
        second
    );
    assert_eq!(
        told("released", "retained", "admin").await?["digest"],
        second
    );
    let shown = admin.plugin("etsy").await?;
    let transitions = shown["transitions"]
        .as_array()
        .context("the audit is shown")?;
    assert!(
        transitions.iter().any(|step| step["reason"] == "it is odd"),
        "{shown}"
    );
    Ok(())
}

/// A new revision that fails too often is put aside without anybody's help, and the one before serves.
async fn a_failing_revision_is_rolled_back_by_itself(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let good = fs::read(guest("hostile-adapter"))?;
    drop_in(&site, "hostile", &good)?;
    let host = site.host().start().await?;
    let shop = Shop::open(&host, "org-1", "hostile").await?;
    let before = digest(&host, "hostile").await?;
    assert_eq!(
        host.admin()
            .push("hostile", &revision(&good, 1), None)
            .await?
            .status,
        200
    );
    let failing = digest(&host, "hostile").await?;
    for faults in 1..=5 {
        assert_eq!(
            shop.import(&host, &format!("amount:-{faults}.00")).await?["success"],
            false
        );
    }
    let back = || async {
        digest(&host, "hostile")
            .await
            .ok()
            .filter(|digest| *digest == before)
    };
    eventually("the one before serves", PATIENCE, back).await?;
    assert_eq!(shop.import(&host, "fine").await?["success"], true);
    let ledger = Ledger::open(&site).await?;
    let audited = format!(
        "select reason from plugin_transitions where actor = 'engine' and to_state = 'quarantined' and digest = '{failing}'"
    );
    let reason = ledger.wait_for(&audited).await?["reason"].to_string();
    assert!(
        reason.contains("too many faults") && reason.contains("amount"),
        "{reason}"
    );
    let again = host
        .admin()
        .push("hostile", &revision(&good, 1), None)
        .await?;
    assert!(
        again.status == 409 || again.status == 422,
        "{} {}",
        again.status,
        again.text
    );
    Ok(())
}

on_every_backend!(
    swaps_and_rollbacks_under_load_hurt_no_order,
    faulty_plugins_are_refused_while_the_old_one_serves,
    faulty_files_are_refused_while_the_old_one_serves,
    every_step_is_audited,
    a_failing_revision_is_rolled_back_by_itself,
);
