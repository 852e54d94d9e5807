//! Recoveries that are too long for one request.

use anyhow::{Context, Result};
use wharf_app::{Redrive, Run};
use wharf_domain::{EventKind, Time};
use wharf_tests::{Backend, on_every_backend};

use crate::host::{InProcess, organization};

async fn a_long_recovery_takes_several_requests(backend: Backend) -> Result<()> {
    let host = InProcess::open(backend).await?;
    let hook = host
        .endpoint(EventKind::SyncFailed, "http://127.0.0.1:1/")
        .await?;
    let id = match backend {
        Backend::Embedded => "randomblob(16)",
        Backend::Postgres => "gen_random_uuid()",
    };
    let missed = format!(
        "insert into callback_outbox (id, organization_id, store_id, event, status, due_at)
        select {id}, 'org-1', {id}, 'sync.failed', 'success', null from (with recursive s (n) as
            (select 1 union all select n + 1 from s where n < 700) select n from s) s"
    );
    host.ledger.execute(&missed).await?;
    let mut how = Redrive {
        since: Time::from_micros(0),
        per_minute: Some(60),
        from: None,
        run: Run::Real,
    };
    let first = host
        .app
        .recover(&organization(), hook.id, how, &host.app.unkeyed())
        .await?;
    assert_eq!(first.missed, 640);
    how.from = Some(first.next.context("there is more")?);
    let second = host
        .app
        .recover(&organization(), hook.id, how, &host.app.unkeyed())
        .await?;
    assert_eq!((second.missed, second.next), (60, None));
    let times = "select count(distinct due_at) from callback_deliveries";
    assert_eq!(host.ledger.number(times).await?, 700, "one rate for both");
    Ok(())
}

on_every_backend!(a_long_recovery_takes_several_requests);
