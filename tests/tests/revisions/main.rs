//! Revisions of plugins on a running host: swapped under load, refused, deferred, put aside. No order is hurt by any of it.

mod faulty;
mod swaps;

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;
use wharf_tests::{
    Backend, Host, Ledger, PATIENCE, Shop, Site, built_plugin, eventually, guest, on_every_backend,
};

/// The same code under another digest: custom sections say nothing to the machine.
fn revision(component: &[u8], number: u8) -> Vec<u8> {
    [component, &[0, 3, 1, b'n', number]].concat()
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
    every_step_is_audited,
    a_failing_revision_is_rolled_back_by_itself,
);
