//! Finished events are purged.

use anyhow::Result;
use wharf_store::outbox::{self, Purged};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, NOW, SECOND};

async fn finished_events_leave_in_batches_with_all_that_is_theirs(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let endpoint = ledger
        .endpoint(
            "org",
            wharf_domain::EventKind::SyncFailed,
            "http://127.0.0.1/",
        )
        .await?;
    let (endpoint, id, time) = match backend {
        Backend::Postgres => (
            format!("cast('{endpoint}' as uuid)"),
            "cast(lpad(cast(n as text), 32, '0') as uuid)",
            format!(
                "timestamptz 'epoch' + {} * interval '1 microsecond'",
                NOW.as_micros()
            ),
        ),
        Backend::Embedded => (
            format!("x'{}'", endpoint.0.simple()),
            "unhex(printf('%032d', n))",
            NOW.as_micros().to_string(),
        ),
    };
    // Five were delivered, two are dead letters, one is still on its way.
    let numbers = "(with recursive s (n) as (select 1 union all select n + 1 from s where n < 8) select n from s) s";
    let state = "case when n <= 5 then 'success' when n <= 7 then 'failed' else 'pending' end";
    let mut conn = ledger.conn().await?;
    for statement in [
        format!(
            "insert into callback_outbox (id, organization_id, store_id, event, status, due_at, updated_at)
             select {id}, 'org', {id}, 'sync.failed', {state}, null, {time} from {numbers}"
        ),
        "insert into callback_messages (outbox_id, shaper, plugin_digest, content_type, headers, body)
         select o.id, 'standard', '', '', '[]', e.secret from callback_outbox o cross join webhook_endpoints e"
            .into(),
        format!(
            "insert into callback_deliveries (id, outbox_id, endpoint_id, organization_id, shaper, state, due_at)
             select id, id, {endpoint}, 'org', 'standard', status, case when status = 'pending' then updated_at end
             from callback_outbox"
        ),
        "insert into callback_attempts (delivery_id, attempt, started_at, latency_us)
         select id, 1, updated_at, 1 from callback_deliveries"
            .into(),
    ] {
        ledger.sql.execute(&statement).await?;
    }
    assert_eq!(outbox::newest_finished(&mut conn).await?, Some(NOW));
    let early = outbox::purge(&mut conn, NOW, 100, 100).await?;
    assert_eq!(early, Purged::default(), "none was finished before");
    // At most four events and three deliveries at a time; an event goes with the last of its deliveries.
    for (events, deliveries) in [(3, 3), (3, 3), (1, 1), (0, 0)] {
        let purged = outbox::purge(&mut conn, NOW + SECOND, 4, 3).await?;
        assert_eq!(purged, Purged { events, deliveries });
    }
    assert_eq!(outbox::newest_finished(&mut conn).await?, None);
    for table in [
        "callback_outbox",
        "callback_messages",
        "callback_deliveries",
        "callback_attempts",
    ] {
        assert_eq!(
            ledger
                .number(&format!("select count(*) from {table}"))
                .await?,
            1,
            "{table}"
        );
    }
    Ok(())
}

on_every_backend!(finished_events_leave_in_batches_with_all_that_is_theirs);
