//! Organizations with many endpoints, and events that cannot be fanned out: they hold up nobody else.

use std::time::Duration;

use anyhow::Result;
use wharf_app::AppError;
use wharf_domain::{Clock, EventKind, OrganizationId};
use wharf_tests::{Backend, Receiver, on_every_backend};

use crate::host::InProcess;

const SECOND: Duration = Duration::from_secs(1);

/// Gives an organization so many endpoints more. None of its endpoints is sent anything.
async fn fill(host: &InProcess, backend: Backend, name: &str, count: usize) -> Result<()> {
    let organization = OrganizationId::parse(name)?;
    host.endpoint_of(&organization, EventKind::SyncFailed, "http://127.0.0.1:1/")
        .await?;
    let id = match backend {
        Backend::Embedded => "randomblob(16)",
        Backend::Postgres => "gen_random_uuid()",
    };
    let far = host.ledger.time(0);
    let paused = format!(
        "update webhook_endpoints set paused_until = {far} where organization_id = '{name}'"
    );
    let copies = format!(
        "insert into webhook_endpoints (id, identity, organization_id, event, target_url, secret, paused_until)
        select {id}, '{name}' || s.n, e.organization_id, e.event, e.target_url || s.n, e.secret, {far}
        from webhook_endpoints e cross join (with recursive s (n) as
            (select 1 union all select n + 1 from s where n < {count}) select n from s) s
        where e.organization_id = '{name}'"
    );
    if count > 0 {
        host.ledger.execute(&copies).await?;
    }
    host.ledger.execute(&paused).await?;
    Ok(())
}

/// Puts events of an organization into the outbox, due now.
async fn emit(host: &InProcess, backend: Backend, name: &str, count: usize) -> Result<()> {
    // Later ones are fanned out later.
    host.clock.advance(Duration::from_micros(1));
    let now = host.clock.now();
    let (id, at) = match backend {
        Backend::Embedded => ("randomblob(16)", now.as_micros().to_string()),
        Backend::Postgres => (
            "gen_random_uuid()",
            format!(
                "timestamptz 'epoch' + {} * interval '1 microsecond'",
                now.as_micros()
            ),
        ),
    };
    let events = format!(
        "insert into callback_outbox (id, organization_id, store_id, event, due_at, created_at, updated_at)
        select {id}, '{name}', {id}, 'sync.failed', {at}, {at}, {at} from (with recursive s (n) as
            (select 1 union all select n + 1 from s where n < {count}) select n from s) s"
    );
    host.ledger.execute(&events).await?;
    Ok(())
}

async fn deliveries(host: &InProcess, name: &str) -> Result<i64> {
    let select =
        format!("select count(*) from callback_deliveries where organization_id = '{name}'");
    host.ledger.number(&select).await
}

async fn a_large_organization_is_fanned_out_page_by_page(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    fill(&host, backend, "large", 1_199).await?;
    emit(&host, backend, "large", 1).await?;
    let unfinished = "select count(*) from callback_outbox where due_at is not null";
    for (made, left) in [(500, 1), (1_000, 1), (1_200, 0)] {
        assert_eq!(host.callback_worker.step().await?.fanned_out, 1);
        assert_eq!(deliveries(&host, "large").await?, made);
        assert_eq!(host.ledger.number(unfinished).await?, left, "after {made}");
    }
    assert_eq!(host.callback_worker.step().await?.fanned_out, 0);
    let messages = "select count(*) from callback_messages";
    assert_eq!(host.ledger.number(messages).await?, 1, "shaped once");
    let event =
        "select count(*) from callback_outbox where status = 'pending' and fan_out_attempt = 1
        and fan_out_after is null";
    assert_eq!(host.ledger.number(event).await?, 1);
    Ok(())
}

async fn a_small_organization_does_not_wait_for_a_large_one(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    fill(&host, backend, "large", 1_199).await?;
    fill(&host, backend, "small", 0).await?;
    emit(&host, backend, "large", 70).await?;
    emit(&host, backend, "small", 1).await?;
    // It stands behind the first batch of 64.
    for step in 1..=2 {
        // What goes on stands behind what is due already.
        host.clock.advance(Duration::from_micros(1));
        let before = deliveries(&host, "large").await?;
        host.callback_worker.step().await?;
        let made = deliveries(&host, "large").await? - before;
        assert!((1..=500).contains(&made), "{made} in step {step}");
    }
    assert_eq!(deliveries(&host, "small").await?, 1);
    Ok(())
}

/// Makes the database refuse every delivery of an organization.
async fn poison(host: &InProcess, backend: Backend, name: &str) -> Result<()> {
    let statements = match backend {
        Backend::Embedded => vec![format!(
            "create trigger poison before insert on callback_deliveries when new.organization_id = '{name}'
            begin select raise(abort, 'poison'); end"
        )],
        Backend::Postgres => vec![
            format!(
                "create function poison() returns trigger language plpgsql as $$ begin
                if new.organization_id = '{name}' then raise exception 'poison'; end if; return new; end $$"
            ),
            "create trigger poison before insert on callback_deliveries
                for each row execute function poison()"
                .into(),
        ],
    };
    for statement in statements {
        host.ledger.execute(&statement).await?;
    }
    Ok(())
}

async fn cure(host: &InProcess, backend: Backend) -> Result<()> {
    let on = match backend {
        Backend::Embedded => "",
        Backend::Postgres => " on callback_deliveries",
    };
    host.ledger
        .execute(&format!("drop trigger poison{on}"))
        .await?;
    Ok(())
}

async fn an_event_that_the_database_refuses_is_tried_alone(backend: Backend) -> Result<()> {
    let mut host = InProcess::open(backend).await?;
    let receiver = Receiver::start().await?;
    let good = OrganizationId::parse("good")?;
    host.endpoint_of(&good, EventKind::SyncFailed, receiver.url())
        .await?;
    fill(&host, backend, "bad", 0).await?;
    poison(&host, backend, "bad").await?;
    emit(&host, backend, "bad", 1).await?;
    emit(&host, backend, "good", 1).await?;
    let waiting = "select count(*) from callback_outbox where due_at is not null and last_error like '%poison%'";
    assert_eq!(host.callback_worker.step().await?.fanned_out, 2);
    assert_eq!(host.ledger.number(waiting).await?, 2, "both are put off");

    host.clock.advance(SECOND);
    host.callback_worker.step().await?;
    assert_eq!(deliveries(&host, "good").await?, 1, "each alone");
    assert_eq!(host.ledger.number(waiting).await?, 1);
    for tries in 2..5 {
        emit(&host, backend, "good", 1).await?;
        host.callback_worker.step().await?;
        assert_eq!(deliveries(&host, "good").await?, tries, "at once");
        host.clock.advance(8 * SECOND);
    }
    assert_eq!(deliveries(&host, "bad").await?, 0);

    cure(&host, backend).await?;
    host.after(60 * SECOND).await?;
    assert_eq!(deliveries(&host, "bad").await?, 1, "nothing is lost");
    assert_eq!(host.ledger.number(waiting).await?, 0);
    assert_eq!(receiver.requests().len(), 4);
    Ok(())
}

async fn an_organization_has_so_many_endpoints_at_most(backend: Backend) -> Result<()> {
    let host =
        InProcess::open_with(backend, |settings| settings.callbacks.max_endpoints = 3).await?;
    let organization = OrganizationId::parse("org")?;
    let register = async |name: &OrganizationId, number: usize| {
        let url = format!("http://127.0.0.1:1/{number}");
        host.endpoint_of(name, EventKind::SyncFailed, &url).await
    };
    let all = futures::future::join_all((0..8).map(|number| register(&organization, number))).await;
    let registered: Vec<_> = all.iter().filter_map(|one| one.as_ref().ok()).collect();
    assert_eq!(registered.len(), 3, "whoever comes at the same time");
    let refused = all.iter().filter_map(|one| one.as_ref().err());
    for error in refused {
        let error = error.downcast_ref::<AppError>();
        assert!(
            matches!(error, Some(AppError::TooManyEndpoints)),
            "{error:?}"
        );
    }
    let known = registered[0];
    let again = host
        .endpoint_of(&organization, EventKind::SyncFailed, &known.target_url)
        .await?;
    assert_eq!(again.id, known.id, "it exists");
    register(&OrganizationId::parse("other")?, 1).await?;
    host.app.delete_webhook(&organization, known.id).await?;
    register(&organization, 9).await?;
    Ok(())
}

on_every_backend!(
    a_large_organization_is_fanned_out_page_by_page,
    a_small_organization_does_not_wait_for_a_large_one,
    an_event_that_the_database_refuses_is_tried_alone,
    an_organization_has_so_many_endpoints_at_most,
);
