//! Every faulty plugin of the table `faults`, by the admin API and as a file: refused, and the old revision serves on.

use std::{collections::BTreeSet, fs};

use anyhow::Result;
use faults::{Fault, LIMITS, faults};
use serde_json::{Value, json};
use wharf_tests::{
    Backend, Host, Ledger, PATIENCE, Shop, built_plugin, eventually, guest, on_every_backend,
};

use super::{digest, drop_in, revision, swapped};

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

on_every_backend!(
    faulty_plugins_are_refused_while_the_old_one_serves,
    faulty_files_are_refused_while_the_old_one_serves,
);
