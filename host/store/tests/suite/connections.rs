//! Connections that come back in the middle of something.

use anyhow::Result;
use futures::FutureExt;
use wharf_domain::Receipt;
use wharf_store::{Ledger, LedgerSettings, logs};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, register_as};

/// The same database by one connection of each kind, so that whatever is left on it meets whoever comes next.
async fn narrow(fixture: &Fixture) -> Result<Ledger> {
    let settings = LedgerSettings {
        pool_size: 1,
        ..LedgerSettings::new(fixture.url())
    };
    Ok(Ledger::open(&settings).await?)
}

async fn a_dropped_transaction_holds_nobody_up(backend: Backend) -> Result<()> {
    let fixture = Fixture::open(backend).await?;
    let ledger = narrow(&fixture).await?;
    let mut tx = ledger.begin().await?;
    register_as(&mut tx, "org", "dropped", "token").await?;
    drop(tx);
    // By another connection: its key is free although nobody has taken the first one since.
    fixture.register("org", "dropped").await?;
    register_as(&mut ledger.write().await?, "org", "next", "token").await?;
    assert_eq!(fixture.number("select count(*) from stores").await?, 2);
    Ok(())
}

async fn an_answer_that_nobody_waits_for_reaches_nobody_else(backend: Backend) -> Result<()> {
    let fixture = Fixture::open(backend).await?;
    let ledger = narrow(&fixture).await?;
    let (one, other) = (
        fixture.register("org", "one").await?,
        fixture.register("org", "other").await?,
    );
    let receipt = Receipt::parse("receipt-1")?;
    for _ in 0..20 {
        let mut conn = ledger.read().await?;
        // Polled once: asked, and dropped before the answer, unless SQLite's thread is quicker.
        let _ = logs::look_up(&mut conn, one.1, &receipt).now_or_never();
        drop(conn);
        let found = logs::look_up(&mut ledger.read().await?, other.1, &receipt).await?;
        assert_eq!(found.map(|(store, _)| store.id), Some(other.0));
    }
    Ok(())
}

async fn a_closed_ledger_says_so(backend: Backend) -> Result<()> {
    let fixture = Fixture::open(backend).await?;
    let ledger = narrow(&fixture).await?;
    drop(ledger.read().await?);
    ledger.close().await;
    assert!(ledger.read().await.is_err());
    assert!(ledger.pools().iter().all(|pool| pool.used + pool.idle == 0));
    Ok(())
}

on_every_backend!(
    a_dropped_transaction_holds_nobody_up,
    an_answer_that_nobody_waits_for_reaches_nobody_else,
    a_closed_ledger_says_so,
);
