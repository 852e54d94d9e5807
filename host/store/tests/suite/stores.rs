//! The schema, the statements, and sellers' stores.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use wharf_domain::{MarketplaceName, Receipt, SyncStatus, SyncToken};
use wharf_store::{EncryptionKey, logs, marketplaces, stores};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, NOW, key, random_v4, register_as};

async fn prepares_every_statement(backend: Backend) {
    let ledger = Fixture::open(backend).await.expect("a ledger");
    let mut names = Vec::new();
    for (name, sql) in wharf_store::statements() {
        let text = match backend {
            Backend::Postgres => sql.postgres,
            Backend::Embedded => sql.sqlite,
        };
        ledger
            .sql
            .prepare(text)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}\n{sql:?}"));
        names.push(name);
    }
    assert!(names.len() > 25, "{names:?}");
}

async fn migrates_twice_and_from_many_processes(backend: Backend) {
    let ledger = Fixture::open(backend).await.expect("a ledger");
    try_join_all((0..4).map(|_| ledger.migrate()))
        .await
        .expect("migrations that are safe to repeat");
}

async fn registers_once_per_key(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let registered = try_join_all((0..32).map(|n| {
        let store = ledger.clone();
        async move {
            register_as(
                &mut store.write().await?,
                "org",
                "shop",
                &format!("token-{n}"),
            )
            .await
        }
    }))
    .await?;
    assert!(
        registered
            .iter()
            .all(|ids| ids.0 == registered[0].0 && ids.1.0 == registered[0].1.0)
    );
    assert_eq!(ledger.number("select count(*) from stores").await?, 1);
    // Parts of a key that only look the same when they are joined are different keys.
    let other = ledger.register("or", "gshop").await?;
    assert_ne!(other.0, registered[0].0);
    Ok(())
}

async fn keeps_the_longest_names(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    // Random so that the database cannot compress them below its index limit.
    let long = || {
        (0..255)
            .map(|_| char::from_u32(fastrand::u32(0x10000..0x20000)).unwrap_or('x'))
            .collect::<String>()
    };
    let (organization, external) = (long(), long());
    let first = ledger.register(&organization, &external).await?;
    let again = ledger.register(&organization, &external).await?;
    assert_eq!(first.0, again.0);
    Ok(())
}

async fn access_tokens_are_encrypted_and_replaced(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut conn = ledger.conn().await?;
    let (id, _) = register_as(&mut conn, "org", "shop", "first-secret").await?;
    register_as(&mut conn, "org", "shop", "second-secret").await?;
    let store = stores::by_id(&mut conn, id).await?.expect("a store");
    assert_eq!(store.access_token(&key())?.expose(), "second-secret");
    let other = EncryptionKey::new([1; 32]).into();
    assert!(store.access_token(&other).is_err());
    assert!(!format!("{store:?}").contains("secret"));
    Ok(())
}

async fn a_new_store_reports_pending(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (_, token) = ledger.register("org", "shop").await?;
    let mut conn = ledger.conn().await?;
    let report = stores::report(&mut conn, token).await?.expect("a report");
    assert_eq!(
        (
            report.sync_status,
            report.imported_orders,
            report.rate_limited_count
        ),
        (SyncStatus::Pending, 0, 0)
    );
    assert_eq!(report.last_sync_at, None);
    let stranger = SyncToken(random_v4());
    assert!(stores::report(&mut conn, stranger).await?.is_none());
    assert!(
        logs::look_up(&mut conn, stranger, &Receipt::parse("r")?)
            .await?
            .is_none()
    );
    Ok(())
}

async fn only_another_token_is_new_credentials(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut conn = ledger.conn().await?;
    let mut changed = Vec::new();
    for token in ["one", "one", "two", "two", "one"] {
        let (id, _) = register_as(&mut conn, "org", "shop", token).await?;
        let store = stores::by_id(&mut conn, id).await?.expect("a store");
        changed.push(store.credentials_changed_at.is_some());
        if let Some(at) = store.credentials_changed_at {
            stores::credentials_tried(&mut conn, id, at).await?;
        }
    }
    assert_eq!(changed, [false, false, true, false, true]);
    // A change that is not tried yet is not forgotten by a repeat.
    register_as(&mut conn, "org", "shop", "three").await?;
    let (id, _) = register_as(&mut conn, "org", "shop", "three").await?;
    let store = stores::by_id(&mut conn, id).await?.expect("a store");
    let at = store.credentials_changed_at.expect("a change");
    stores::credentials_tried(&mut conn, id, at + Duration::from_secs(1)).await?;
    let store = stores::by_id(&mut conn, id).await?.expect("a store");
    assert!(
        store.credentials_changed_at.is_some(),
        "a later change stays"
    );
    Ok(())
}

async fn marketplaces_are_remembered(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut conn = ledger.conn().await?;
    for names in [&["etsy", "shopify"][..], &["etsy"], &[]] {
        marketplaces::remember(&mut conn, names.iter().copied(), NOW).await?;
    }
    for (name, known) in [("etsy", true), ("shopify", true), ("amazon", false)] {
        let name = MarketplaceName::parse(name)?;
        assert_eq!(
            marketplaces::is_known(&mut conn, &name).await?,
            known,
            "{name}"
        );
    }
    Ok(())
}

on_every_backend!(
    only_another_token_is_new_credentials,
    marketplaces_are_remembered,
    prepares_every_statement,
    migrates_twice_and_from_many_processes,
    registers_once_per_key,
    keeps_the_longest_names,
    access_tokens_are_encrypted_and_replaced,
    a_new_store_reports_pending,
);
