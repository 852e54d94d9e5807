//! Care for stores: lists, holds and removal.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use uuid::Uuid;
use wharf_domain::{
    AccessToken, Answer, Currency, EventId, ExternalStoreId, HoldSide, HoldTarget, MarketplaceName,
    OrganizationId, Receipt, StoreId, StoreName, SyncStatus, SyncToken,
};
use wharf_store::{
    Conn, EncryptionKey, KeyRing, StoreError,
    holds::{self, NewHold},
    jobs, logs, outbox,
    reseal::{self, Table},
    stores,
    stores::{
        detail,
        list::{self, Filter},
        removal::{self, RemovalCursor},
        token,
    },
};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{
    Fixture, LEASE, NOW, SECOND, accepted, claim, judged, key, organization_id, random, random_v4,
    random_v7,
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

async fn remove(ledger: &Fixture, store: StoreId) -> Result<bool> {
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

/// What a copy of the database tells of a store's token, and whether it is hidden.
async fn copied(ledger: &Fixture, store: StoreId) -> Result<(SyncToken, bool)> {
    let id = ledger.sql.id(&store.to_string());
    let row = ledger
        .sql
        .row(&format!(
            "select sync_token, case when sync_token_sealed is null then 0 else 1 end as hidden
             from stores where id = {id}"
        ))
        .await?;
    let column = row["sync_token"].as_str().context("a token")?.parse()?;
    Ok((SyncToken(column), row["hidden"] == 1))
}

async fn finds(ledger: &Fixture, token: SyncToken) -> Result<Option<StoreId>> {
    let mut conn = ledger.read().await?;
    let receipt = Receipt::parse("r")?;
    let found = stores::by_token(&mut conn, token).await?;
    let looked_up = logs::look_up(&mut conn, token, &receipt).await?;
    let id = found.map(|store| store.id);
    assert_eq!(looked_up.map(|(store, _)| store.id), id);
    assert_eq!(
        stores::report(&mut conn, token).await?.is_some(),
        id.is_some()
    );
    Ok(id)
}

async fn reseal(ledger: &Fixture, keys: &KeyRing) -> Result<u64> {
    let place = (Table::Stores, Uuid::nil());
    let page = reseal::read(&mut ledger.read().await?, keys, place, 100, random).await?;
    let mut tx = ledger.begin().await?;
    let changed = reseal::write(&mut tx, &page).await?;
    tx.commit().await?;
    Ok(changed)
}

/// A program of before made this database and registered stores in it.
async fn of_before(backend: Backend) -> Result<Fixture> {
    let ledger = Fixture::open(backend).await?;
    let unmark = "delete from _sqlx_migrations where version = 1000015";
    assert_eq!(
        ledger.sql.execute(unmark).await?,
        1,
        "a new database is marked"
    );
    Ok(ledger)
}

async fn a_copy_of_the_database_tells_no_token(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let (column, is_hidden) = copied(&ledger, store).await?;
    assert!(is_hidden && column != token);
    assert_eq!(finds(&ledger, token).await?, Some(store));
    assert_eq!(
        finds(&ledger, column).await?,
        None,
        "what was read opens nothing"
    );
    assert_eq!(ledger.register("org", "shop").await?, (store, token));
    // A new key comes in, and the old one leaves: the token stays.
    let [old, new] = [key(), EncryptionKey::new([9; 32]).into()];
    let both = KeyRing::new(EncryptionKey::new([9; 32]), [old.first().clone()]);
    assert_eq!(reseal(&ledger, &both).await?, 1);
    assert_eq!(reseal(&ledger, &both).await?, 0);
    assert_eq!(finds(&ledger, token).await?, Some(store));
    let again = register_with(&ledger, &new, "shop").await?;
    assert_eq!((again.id, again.sync_token), (store, token));
    // Where the key is lost the owner gets another token, and the old one is none any more.
    let lost = EncryptionKey::new([1; 32]).into();
    let again = register_with(&ledger, &lost, "shop").await?;
    assert!(again.id == store && again.sync_token != token);
    assert_eq!(finds(&ledger, again.sync_token).await?, Some(store));
    assert_eq!(finds(&ledger, token).await?, None);
    Ok(())
}

async fn register_with(
    ledger: &Fixture,
    keys: &KeyRing,
    external: &str,
) -> Result<stores::Registered> {
    let new = stores::NewStore {
        id: StoreId(random_v7()),
        sync_token: SyncToken(random_v4()),
        organization_id: &organization_id("org"),
        marketplace: &MarketplaceName::parse("etsy")?,
        external_store_id: &ExternalStoreId::parse(external)?,
        store_name: &StoreName::parse("A store")?,
        access_token: &AccessToken::parse("token")?,
        currency: Currency::parse("USD")?,
        nonce: random(),
        token_nonce: random(),
    };
    let mut tx = ledger.begin().await?;
    let registered = stores::register(&mut tx, keys, &new, NOW).await?;
    tx.commit().await?;
    Ok(registered)
}

async fn tokens_of_before_are_found_and_then_hidden(backend: Backend) -> Result<()> {
    let ledger = of_before(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let (removed, removed_token) = ledger.register("org", "removed").await?;
    assert_eq!(
        copied(&ledger, store).await?,
        (token, false),
        "as a program of before needs it"
    );
    assert_eq!(finds(&ledger, token).await?, Some(store));
    ledger.migrate().await?;
    let (other, _) = ledger.register("org", "other").await?;
    assert!(
        !copied(&ledger, other).await?.1,
        "a migration alone hides nothing"
    );
    token::hide(&mut ledger.conn().await?).await?;
    token::hide(&mut ledger.conn().await?).await?;
    assert!(ledger.check_schema().await.is_ok());
    let (late, late_token) = ledger.register("org", "late").await?;
    assert!(copied(&ledger, late).await?.1);
    assert_eq!(ledger.register("org", "shop").await?, (store, token));
    assert_eq!(token::in_clear(&mut ledger.read().await?).await?, 3);
    // A removal between the look and the write of a reseal is not undone by it.
    let place = (Table::Stores, Uuid::nil());
    let page = reseal::read(&mut ledger.read().await?, &key(), place, 100, random).await?;
    assert!(remove(&ledger, removed).await?);
    let mut tx = ledger.begin().await?;
    assert_eq!(reseal::write(&mut tx, &page).await?, 2);
    tx.commit().await?;
    assert_eq!(finds(&ledger, removed_token).await?, None);
    assert_eq!(token::in_clear(&mut ledger.read().await?).await?, 0);
    for (id, token) in [(store, token), (late, late_token)] {
        let (column, is_hidden) = copied(&ledger, id).await?;
        assert!(is_hidden && column != token);
        assert_eq!(finds(&ledger, token).await?, Some(id));
        assert_eq!(finds(&ledger, column).await?, None);
    }
    assert_eq!(ledger.register("org", "shop").await?, (store, token));
    Ok(())
}

on_every_backend!(
    a_copy_of_the_database_tells_no_token,
    tokens_of_before_are_found_and_then_hidden,
    lists_are_whole_and_filtered,
    each_side_ends_its_own_hold,
    holds_are_bounded,
    held_jobs_are_put_off_and_wake,
    a_removed_store_is_gone_at_once_and_then_its_rows,
    a_store_tells_of_itself,
);
