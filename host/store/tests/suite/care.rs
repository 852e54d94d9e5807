//! Care for stores: lists, holds and removal.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use uuid::Uuid;
use wharf_domain::{
    Answer, EventId, ExternalStoreId, HoldSide, HoldTarget, MarketplaceName, OrganizationId,
    StoreId, SyncStatus,
};
use wharf_store::{
    Conn, StoreError,
    holds::{self, NewHold},
    jobs, outbox, stores,
    stores::{
        detail,
        list::{self, Filter},
        removal::{self, RemovalCursor},
    },
};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{
    Fixture, LEASE, NOW, SECOND, accepted, claim, judged, organization_id, random_v4, random_v7,
};

const HELD_UNTIL: Duration = Duration::from_secs(600);

async fn every(conn: &mut Conn, filter: &Filter, most: usize) -> Result<Vec<StoreId>> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = list::page(conn, filter, before, most).await?;
        assert!(page.stores.len() <= most);
        found.extend(page.stores.iter().map(|store| store.id));
        let Some(next) = page.next else {
            return Ok(found);
        };
        before = Some(next);
    }
}

async fn lists_are_whole_and_filtered(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut of_org = Vec::new();
    for number in 0..7 {
        of_org.push(ledger.register("org", &format!("shop-{number}")).await?.0);
        ledger.register("other", &format!("shop-{number}")).await?;
    }
    let mut conn = ledger.read().await?;
    of_org.sort_unstable_by(|a, b| b.cmp(a));
    let org = Filter {
        organization: Some(organization_id("org")),
        ..Filter::default()
    };
    for most in [1, 2, 7, 100] {
        assert_eq!(
            every(&mut conn, &org, most).await?,
            of_org,
            "pages of {most}"
        );
        assert_eq!(every(&mut conn, &Filter::default(), most).await?.len(), 14);
    }
    let at = |name| -> Result<Filter> {
        Ok(Filter {
            marketplace: Some(MarketplaceName::parse(name)?),
            ..Filter::default()
        })
    };
    assert_eq!(every(&mut conn, &at("etsy")?, 3).await?.len(), 14);
    assert_eq!(every(&mut conn, &at("shopify")?, 3).await?.len(), 0);
    let external = Filter {
        external_store_id: Some(ExternalStoreId::parse("shop-3")?),
        ..org.clone()
    };
    let found = every(&mut conn, &external, 3).await?;
    assert_eq!((found.len(), of_org.contains(&found[0])), (1, true));
    // A status that no index knows: pages may be empty, the list is whole.
    ledger
        .record(&[judged(of_org[4], "r", accepted(), NOW)])
        .await?;
    let success = Filter {
        sync_status: Some(SyncStatus::Success),
        ..Filter::default()
    };
    assert_eq!(every(&mut conn, &success, 2).await?, [of_org[4]]);
    let (org, other) = (organization_id("org"), organization_id("other"));
    for (organization, is_found) in [(Some(&org), true), (Some(&other), false), (None, true)] {
        let store = list::one(&mut conn, organization, of_org[0]).await?;
        assert_eq!(store.is_some(), is_found);
    }
    Ok(())
}

async fn hold(
    ledger: &Fixture,
    target: &HoldTarget,
    owner: Option<&OrganizationId>,
) -> Result<Option<holds::Hold>> {
    let new = NewHold {
        id: random_v7(),
        target,
        owner,
        reason: Some("because"),
        placed_by: "somebody",
    };
    let mut tx = ledger.begin().await?;
    let hold = holds::place(&mut tx, &new, NOW).await?;
    tx.commit().await?;
    Ok(hold)
}

async fn end(ledger: &Fixture, target: &HoldTarget, side: HoldSide) -> Result<bool> {
    let mut tx = ledger.begin().await?;
    let ended = holds::end(&mut tx, target, side).await?;
    tx.commit().await?;
    Ok(ended)
}

async fn each_side_ends_its_own_hold(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let (free, _) = ledger.register("free", "shop").await?;
    let (org, target) = (organization_id("org"), HoldTarget::Store(store));
    let mut conn = ledger.read().await?;
    let before = holds::changes(&mut conn).await?;
    let first = hold(&ledger, &target, Some(&org))
        .await?
        .context("a hold")?;
    let again = hold(&ledger, &target, Some(&org))
        .await?
        .context("a hold")?;
    assert_eq!(first, again, "a repeat changes nothing");
    assert_eq!(holds::changes(&mut conn).await?, before + 1);
    hold(&ledger, &target, None).await?;
    let is_held = async |conn: &mut Conn, id| -> Result<bool> {
        let (_, held) = holds::held(conn).await?;
        let told = list::one(conn, None, id).await?.context("a store")?;
        let copied = held.holds(id, &told.organization_id, &told.marketplace);
        assert_eq!(told.is_held, copied, "the statement and the copy agree");
        Ok(told.is_held)
    };
    assert!(is_held(&mut conn, store).await? && !is_held(&mut conn, free).await?);
    assert!(end(&ledger, &target, HoldSide::Organization).await?);
    assert!(!end(&ledger, &target, HoldSide::Organization).await?);
    assert!(is_held(&mut conn, store).await?, "the operator's stays");
    assert!(end(&ledger, &target, HoldSide::Operator).await?);
    assert!(!is_held(&mut conn, store).await?);
    let organization = HoldTarget::Organization(organization_id("org"));
    let marketplace = HoldTarget::Marketplace(MarketplaceName::parse("etsy")?);
    hold(&ledger, &organization, None).await?;
    assert!(is_held(&mut conn, store).await? && !is_held(&mut conn, free).await?);
    hold(&ledger, &marketplace, None).await?;
    assert!(is_held(&mut conn, store).await? && is_held(&mut conn, free).await?);
    assert_eq!(
        holds::of_store(&mut conn, store, "org", "etsy")
            .await?
            .len(),
        2
    );
    let page = holds::page(&mut conn, Some("marketplace"), None, 10).await?;
    assert_eq!((page.len(), page[0].name.as_str()), (1, "etsy"));
    let listed = Filter {
        is_held: Some(true),
        ..Filter::default()
    };
    assert_eq!(every(&mut conn, &listed, 1).await?.len(), 2);
    Ok(())
}

async fn holds_are_bounded(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let place = |owner: &'static str| {
        let ledger = &ledger;
        async move {
            let target = HoldTarget::Store(StoreId(random_v4()));
            let owner = organization_id(owner);
            anyhow::Ok(hold(ledger, &target, Some(&owner)).await?.is_some())
        }
    };
    for _ in 0..holds::MAX_HOLDS_OF_ORGANIZATION - 1 {
        assert!(place("greedy").await?);
    }
    // Of two at a time one is too many.
    let placed = try_join_all((0..2).map(|_| place("greedy"))).await?;
    assert_eq!(placed.iter().filter(|placed| **placed).count(), 1);
    assert!(place("another").await?);
    Ok(())
}

async fn put_off(ledger: &Fixture) -> Result<u64> {
    let mut tx = ledger.begin().await?;
    let jobs = holds::put_off(&mut tx, NOW + HELD_UNTIL, NOW).await?;
    tx.commit().await?;
    Ok(jobs)
}

async fn wake(ledger: &Fixture) -> Result<Vec<StoreId>> {
    let (mut woken, mut after) = (Vec::new(), Some(StoreId(Uuid::nil())));
    while let Some(from) = after {
        let mut tx = ledger.begin().await?;
        let page = holds::wake(&mut tx, from, NOW + SECOND).await?;
        tx.commit().await?;
        woken.extend(page.stores);
        after = page.next;
    }
    Ok(woken)
}

/// More jobs than one transaction moves: those of held stores stand in nobody's way, and all wake.
async fn held_jobs_are_put_off_and_wake(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let many = usize::try_from(holds::MAX_JOBS)? + 20;
    let mut conn = ledger.read().await?;
    let mut held = Vec::new();
    for number in 0..many {
        held.push(ledger.register("held", &format!("shop-{number}")).await?.0);
    }
    jobs::enqueue(
        &mut ledger.conn().await?,
        held.iter().copied(),
        NOW - SECOND,
    )
    .await?;
    let (free, _) = ledger.register("free", "shop").await?;
    jobs::enqueue(&mut ledger.conn().await?, [free], NOW).await?;
    let target = HoldTarget::Organization(organization_id("held"));
    hold(&ledger, &target, None).await?;
    let untouched = ledger
        .number("select sum(fence) + sum(attempt) from sync_jobs")
        .await
        .ok();
    assert_eq!(put_off(&ledger).await?, holds::MAX_JOBS.unsigned_abs());
    assert_eq!(put_off(&ledger).await?, 20);
    assert_eq!(put_off(&ledger).await?, 0);
    let fences = "select sum(fence) + sum(attempt) from sync_jobs";
    assert_eq!(ledger.number(fences).await.ok(), untouched);
    let claimed = claim(&mut ledger.conn().await?, "w", LEASE, 10, NOW).await?;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].fence.store_id, free);
    assert!(wake(&ledger).await?.is_empty(), "they are held still");
    // One of them is held by itself, too.
    let own = HoldTarget::Store(held[7]);
    hold(&ledger, &own, None).await?;
    assert!(end(&ledger, &target, HoldSide::Operator).await?);
    assert_eq!(wake(&ledger).await?.len(), many - 1);
    assert!(wake(&ledger).await?.is_empty(), "safe to repeat");
    assert!(end(&ledger, &own, HoldSide::Operator).await?);
    assert_eq!(wake(&ledger).await?, [held[7]]);
    let due = jobs::due(&mut conn, 10_000, NOW + SECOND).await?;
    assert_eq!(due.len(), many);
    Ok(())
}

pub(crate) async fn remove(ledger: &Fixture, store: StoreId) -> Result<bool> {
    let mut tx = ledger.begin().await?;
    let is_live = removal::live(&mut tx, Some(&organization_id("org")), store).await?;
    if is_live {
        removal::hide(&mut tx, store, random_v4(), NOW).await?;
    }
    tx.commit().await?;
    Ok(is_live)
}

async fn a_removed_store_is_gone_at_once_and_then_its_rows(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let (other, _) = ledger.register("org", "other").await?;
    let logs: Vec<_> = (0..25)
        .map(|n| judged(store, &format!("r{n}"), accepted(), NOW))
        .collect();
    ledger.record(&logs).await?;
    ledger
        .record(&[judged(other, "r", accepted(), NOW)])
        .await?;
    let mut conn = ledger.read().await?;
    jobs::enqueue(&mut ledger.conn().await?, [store, other], NOW).await?;
    let claimed = claim(&mut ledger.conn().await?, "w", LEASE, 2, NOW).await?;
    hold(&ledger, &HoldTarget::Store(store), None).await?;
    assert!(!{
        let mut tx = ledger.begin().await?;
        removal::live(&mut tx, Some(&organization_id("stranger")), store).await?
    });
    assert!(remove(&ledger, store).await?);
    assert!(!remove(&ledger, store).await?, "it is not found twice");

    // Nobody finds it, and nobody writes for it.
    assert!(stores::by_token(&mut conn, token).await?.is_none());
    assert!(stores::by_id(&mut conn, store).await?.is_none());
    assert!(stores::report(&mut conn, token).await?.is_none());
    assert_eq!(every(&mut conn, &Filter::default(), 10).await?, [other]);
    assert!(holds::held(&mut conn).await?.1.is_empty());
    let fence = claimed.iter().find(|job| job.fence.store_id == store);
    let fence = fence.context("it was claimed")?.fence;
    let mut tx = ledger.begin().await?;
    let counts = wharf_domain::SyncCounts::default();
    let refused = jobs::hold(&mut tx, fence, counts, NOW + LEASE, NOW).await;
    assert!(matches!(refused, Err(StoreError::FenceLost)), "{refused:?}");
    drop(tx);
    let late = ledger
        .record(&[judged(store, "late", accepted(), NOW)])
        .await;
    let late = late.expect_err("it is being removed");
    assert!(matches!(
        late.downcast_ref::<StoreError>(),
        Some(StoreError::StoreRemoved)
    ));
    let again = ledger.register("org", "shop").await;
    assert!(again.is_err(), "not before its rows are gone");

    // Page by page, and its own row last.
    let next = removal::next(&mut conn, RemovalCursor::START).await?;
    assert_eq!(next.map(|next| next.store), Some(store));
    let mut pages = Vec::new();
    loop {
        let mut tx = ledger.begin().await?;
        let removed = removal::remove_logs(&mut tx, store, 10).await?;
        let gone = removal::remove_store(&mut tx, store).await?;
        tx.commit().await?;
        pages.push((removed, gone));
        if gone {
            break;
        }
    }
    assert_eq!(pages, [(10, false), (10, false), (5, true)]);
    assert_eq!(removal::next(&mut conn, RemovalCursor::START).await?, None);
    assert_eq!(ledger.number("select count(*) from sync_logs").await?, 1);
    assert_eq!(ledger.number("select count(*) from sync_jobs").await?, 1);
    let (new, _) = ledger.register("org", "shop").await?;
    assert_ne!(new, store, "a new store");
    Ok(())
}

async fn a_store_tells_of_itself(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let refused = |n| {
        judged(
            store,
            &format!("bad-{n}"),
            Answer::Refused("no".into()),
            NOW,
        )
    };
    let mut logs: Vec<_> = (0..3).map(refused).collect();
    logs.push(judged(store, "good", accepted(), NOW));
    logs.push(judged(store, "slow", Answer::RateLimited(None), NOW));
    ledger.record(&logs).await?;
    let mut conn = ledger.read().await?;
    jobs::enqueue(&mut ledger.conn().await?, [store], NOW).await?;
    for (number, event) in ["sync.started", "sync.completed", "sync.failed"]
        .into_iter()
        .enumerate()
    {
        let event = wharf_domain::Event {
            id: EventId(random_v7()),
            kind: event.into(),
            at: NOW + SECOND * u32::try_from(number)?,
            organization_id: organization_id("org"),
            store_id: store,
            data: r#"{"processedCount":4}"#.into(),
        };
        outbox::emit(&mut ledger.conn().await?, &event, outbox::Cause::default()).await?;
    }
    let org = organization_id("org");
    let told = detail::detail(&mut conn, &org, store, NOW + LEASE).await?;
    assert_eq!(
        (told.receipts.number, told.receipts.is_at_least),
        (5, false)
    );
    let open = told.open;
    assert_eq!((open.pending, open.failed, open.rate_limited), (0, 3, 1));
    assert!(!open.is_at_least);
    assert_eq!(told.due.number, 3, "the rate-limited one waits");
    assert_eq!(told.job.map(|job| job.state).as_deref(), Some("queued"));
    let events: Vec<_> = told.runs.iter().map(|run| run.event.as_str()).collect();
    assert_eq!(events, ["sync.failed", "sync.completed"]);
    let refused = told.faults.iter().filter(|fault| fault.error == "no");
    assert_eq!((told.faults.len(), refused.count()), (4, 3));
    assert_eq!(detail::pending_events(&mut conn, &org, store).await?, 3);
    Ok(())
}

on_every_backend!(
    lists_are_whole_and_filtered,
    each_side_ends_its_own_hold,
    holds_are_bounded,
    held_jobs_are_put_off_and_wake,
    a_removed_store_is_gone_at_once_and_then_its_rows,
    a_store_tells_of_itself,
);
