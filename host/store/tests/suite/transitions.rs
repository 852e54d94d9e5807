//! The audit of plugins.

use anyhow::Result;
use wharf_domain::{Time, uuid_v7};
use wharf_store::transitions::{self, PluginTransition};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, NOW, SECOND, random};

fn step(plugin: &str, at: Time, to: &str) -> PluginTransition {
    PluginTransition {
        id: uuid_v7(at, random()),
        at,
        plugin: plugin.into(),
        digest: None,
        from: None,
        to: to.into(),
        reason: "it may serve".into(),
        actor: "folder".into(),
    }
}

async fn steps_are_kept_once_and_told_newest_first(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut conn = ledger.conn().await?;
    let staged = step("etsy", NOW, "staged");
    let active = PluginTransition {
        digest: Some("ab".repeat(32)),
        from: Some("staged".into()),
        ..step("etsy", NOW + SECOND, "active")
    };
    let steps = [
        staged.clone(),
        step("amazon", NOW, "staged"),
        active.clone(),
    ];
    transitions::record(&mut conn, &steps).await?;
    transitions::record(&mut conn, &steps).await?;
    transitions::record(&mut conn, &[]).await?;
    assert_eq!(
        transitions::newest(&mut conn, "etsy", 10).await?,
        [active.clone(), staged]
    );
    assert_eq!(transitions::newest(&mut conn, "etsy", 1).await?, [active]);
    assert_eq!(transitions::newest(&mut conn, "shopify", 10).await?, []);
    let nul = PluginTransition {
        reason: "a\0b".into(),
        ..step("nul", NOW, "refused")
    };
    transitions::record(&mut conn, &[nul]).await?;
    assert_eq!(
        transitions::newest(&mut conn, "nul", 1).await?[0].reason,
        "a\u{fffd}b"
    );
    Ok(())
}

on_every_backend!(steps_are_kept_once_and_told_newest_first);
