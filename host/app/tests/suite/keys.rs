//! Values are sealed with keys that the database knows of, also where it was told to forget them meanwhile.

use std::time::Duration;

use anyhow::Result;
use wharf_domain::EventKind;
use wharf_tests::{Backend, on_every_backend};

use crate::host::{InProcess, organization};

async fn who_seals_puts_a_retired_key_back(backend: Backend) -> Result<()> {
    let host = InProcess::open(backend).await?;
    let canaries = "select count(*) from key_canaries";
    let forget = async || host.ledger.execute("delete from key_canaries").await;
    host.store(&organization()).await?;
    assert_eq!(host.ledger.number(canaries).await?, 1, "a token");
    forget().await?;
    let hook = host
        .endpoint(EventKind::SyncFailed, "http://127.0.0.1:1/")
        .await?;
    assert_eq!(host.ledger.number(canaries).await?, 1, "a secret");
    forget().await?;
    let overlap = Duration::from_secs(60);
    host.app
        .rotate_webhook_secret(&organization(), hook.id, overlap, &host.app.unkeyed())
        .await?;
    assert_eq!(host.ledger.number(canaries).await?, 1, "another secret");
    Ok(())
}

on_every_backend!(who_seals_puts_a_retired_key_back);
