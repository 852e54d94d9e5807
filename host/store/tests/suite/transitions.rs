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
    let mut new = transitions::record(&mut conn, &steps[..1]).await?;
    assert_eq!(new, [staged.id]);
    new = transitions::record(&mut conn, &steps).await?;
    new.sort();
    let mut rest = [steps[1].id, active.id];
    rest.sort();
    assert_eq!(new, rest, "those alone that were not there");
    assert!(transitions::record(&mut conn, &[]).await?.is_empty());
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

async fn old_steps_are_purged_oldest_first(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut conn = ledger.conn().await?;
    assert_eq!(transitions::latest(&mut conn).await?, None);
    let steps: Vec<_> = (0..5)
        .map(|number| step("etsy", NOW + number * SECOND, "staged"))
        .collect();
    transitions::record(&mut conn, &steps).await?;
    assert_eq!(
        transitions::latest(&mut conn).await?,
        Some(NOW + 4 * SECOND)
    );
    let before = NOW + 3 * SECOND;
    assert_eq!(transitions::purge(&mut conn, before, 2).await?, 2);
    assert_eq!(transitions::purge(&mut conn, before, 2).await?, 1);
    assert_eq!(transitions::purge(&mut conn, before, 2).await?, 0);
    let left = transitions::newest(&mut conn, "etsy", 10).await?;
    assert_eq!(left, [steps[4].clone(), steps[3].clone()]);
    Ok(())
}

on_every_backend!(
    steps_are_kept_once_and_told_newest_first,
    old_steps_are_purged_oldest_first
);
