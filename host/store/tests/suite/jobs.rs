//! The sync job of a store: one row, one holder.

use anyhow::Result;
use futures::future::try_join_all;
use wharf_domain::{Answer, RequestId, RunId, SyncCounts};
use wharf_store::{
    StoreError,
    jobs::{self, GiveBack},
    stores::{self, Cursor},
};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, LEASE, NOW, SECOND, accepted, claim, judged, random_v7};

async fn a_store_never_has_two_jobs(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let queued = try_join_all((0..8).map(|_| async {
        let mut conn = ledger.conn().await?;
        anyhow::Ok(jobs::enqueue(&mut conn, [store], NOW).await?)
    }))
    .await?;
    assert_eq!(
        queued.iter().flatten().count(),
        1,
        "queued once, whoever asks"
    );
    let claimed = try_join_all((0..8).map(|worker| {
        let ledger = &ledger;
        async move {
            let mut conn = ledger.conn().await?;
            anyhow::Ok(claim(&mut conn, &format!("w{worker}"), LEASE, 10, NOW).await?)
        }
    }))
    .await?;
    assert_eq!(
        claimed.iter().flatten().count(),
        1,
        "claimed once, whoever tries"
    );
    Ok(())
}

async fn work_that_arrives_during_a_run_makes_it_run_again(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let mut conn = ledger.conn().await?;
    jobs::enqueue(&mut conn, [store], NOW).await?;
    let job = claim(&mut conn, "w", LEASE, 1, NOW).await?.remove(0);
    assert!(
        jobs::enqueue(&mut conn, [store], NOW).await?.is_empty(),
        "running: marked, not queued"
    );
    assert!(
        jobs::finish(&mut conn, job.fence, false, NOW).await?,
        "queued again"
    );
    let job = claim(&mut conn, "w", LEASE, 1, NOW).await?.remove(0);
    assert!(
        !jobs::finish(&mut conn, job.fence, false, NOW).await?,
        "idle"
    );
    assert!(
        claim(&mut conn, "w", LEASE, 1, NOW + LEASE * 10)
            .await?
            .is_empty()
    );
    assert_eq!(jobs::enqueue(&mut conn, [store], NOW).await?, [store]);
    Ok(())
}

async fn a_lost_lease_refuses_every_write(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let mut conn = ledger.conn().await?;
    jobs::enqueue(&mut conn, [store], NOW).await?;
    let stale = claim(&mut conn, "slow", LEASE, 1, NOW)
        .await?
        .remove(0)
        .fence;
    jobs::renew(&mut conn, stale, NOW + LEASE + SECOND).await?;
    assert!(
        claim(&mut conn, "fast", LEASE, 1, NOW + LEASE)
            .await?
            .is_empty(),
        "the lease was prolonged"
    );
    let taken = claim(&mut conn, "fast", LEASE, 1, NOW + LEASE + SECOND)
        .await?
        .remove(0);
    assert!(taken.fence.number > stale.number);
    assert_eq!(taken.attempt, 2);

    let later = NOW + LEASE * 2;
    let lost =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::FenceLost)));
    lost(jobs::renew(&mut conn, stale, later).await);
    let started = jobs::start_run(&mut conn, stale, RunId(random_v7()), later).await;
    lost(started.map(drop));
    lost(
        jobs::hold(&mut conn, stale, SyncCounts::default(), later, later)
            .await
            .map(drop),
    );
    lost(jobs::finish(&mut conn, stale, false, later).await.map(drop));
    lost(jobs::give_back(&mut conn, stale, GiveBack::Unfinished, later, later).await);
    jobs::renew(&mut conn, taken.fence, later).await?;
    Ok(())
}

async fn a_run_outlives_its_worker(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let mut conn = ledger.conn().await?;
    jobs::enqueue(&mut conn, [store], NOW).await?;
    let job = claim(&mut conn, "w1", LEASE, 1, NOW).await?.remove(0);
    assert_eq!(job.run, None);
    let id = RunId(random_v7());
    jobs::start_run(&mut conn, job.fence, id, NOW).await?;
    let chunk = SyncCounts {
        processed: 4,
        success: 1,
        failed: 2,
        rate_limited: 1,
    };
    jobs::hold(&mut conn, job.fence, chunk, NOW + LEASE, NOW).await?;
    let next = claim(&mut conn, "w2", LEASE, 1, NOW + LEASE)
        .await?
        .remove(0);
    let run = next.run.expect("the run in progress");
    assert_eq!((run.id, run.started_at, run.counts), (id, NOW, chunk));
    let sums = jobs::hold(&mut conn, next.fence, chunk, NOW + LEASE * 2, NOW).await?;
    assert_eq!(
        sums,
        SyncCounts {
            processed: 8,
            success: 2,
            failed: 4,
            rate_limited: 2
        }
    );
    assert!(!jobs::finish(&mut conn, next.fence, false, NOW).await?);
    jobs::enqueue(&mut conn, [store], NOW).await?;
    assert_eq!(
        claim(&mut conn, "w3", LEASE, 1, NOW).await?.remove(0).run,
        None,
        "a finished run is over"
    );
    Ok(())
}

/// In the original a failed job blocked its store for ever.
async fn a_failed_job_comes_back(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let mut conn = ledger.conn().await?;
    jobs::enqueue(&mut conn, [store], NOW).await?;
    let job = claim(&mut conn, "w", LEASE, 1, NOW).await?.remove(0);
    jobs::give_back(
        &mut conn,
        job.fence,
        GiveBack::Failed("a\0b"),
        NOW + SECOND,
        NOW,
    )
    .await?;
    assert!(claim(&mut conn, "w", LEASE, 1, NOW).await?.is_empty());
    assert_eq!(jobs::due(&mut conn, 10, NOW + SECOND).await?, [store]);
    let again = claim(&mut conn, "w", LEASE, 1, NOW + SECOND)
        .await?
        .remove(0);
    assert_eq!(again.attempt, 2);
    jobs::give_back(&mut conn, again.fence, GiveBack::Unfinished, NOW, NOW).await?;
    assert_eq!(
        claim(&mut conn, "w", LEASE, 1, NOW)
            .await?
            .remove(0)
            .attempt,
        2,
        "a shutdown is no attempt"
    );
    Ok(())
}

async fn the_scheduler_walks_every_store_once(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut with_work = Vec::new();
    for n in 0..25 {
        let (store, _) = ledger.register("org", &format!("shop-{n}")).await?;
        let answer = if n % 5 == 0 {
            Answer::Refused("no".into())
        } else {
            accepted()
        };
        if n % 5 == 0 {
            with_work.push(store);
        }
        ledger.record(&[judged(store, "r", answer, NOW)]).await?;
    }
    let mut conn = ledger.conn().await?;
    let (mut cursor, mut scanned, mut found) = (Cursor::START, 0, Vec::new());
    loop {
        let page = stores::page(&mut conn, cursor, NOW, NOW, 7).await?;
        scanned += page.scanned;
        found.extend(page.due);
        cursor = page.next;
        if page.scanned < 7 {
            break;
        }
    }
    found.sort();
    with_work.sort();
    assert_eq!((scanned, found), (25, with_work));
    Ok(())
}

/// A run is of the first request that asked for it; one that comes while it runs is of the next.
async fn a_run_has_the_request_that_asked_for_it(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let mut conn = ledger.conn().await?;
    let request = |id: &str| RequestId::from_stored(id.into());
    jobs::enqueue(&mut conn, [store], NOW).await?;
    for id in ["first", "late"] {
        jobs::note_request(&mut conn, store, &request(id)).await?;
    }
    let job = claim(&mut conn, "w", LEASE, 1, NOW).await?.remove(0);
    let run = jobs::start_run(&mut conn, job.fence, RunId(random_v7()), NOW).await?;
    assert_eq!(run.request_id, request("first"));
    jobs::enqueue(&mut conn, [store], NOW).await?;
    jobs::note_request(&mut conn, store, &request("next")).await?;
    let later = NOW + LEASE;
    let again = claim(&mut conn, "w", LEASE, 1, later).await?.remove(0);
    assert_eq!(again.run, Some(run), "as before the crash");
    assert!(jobs::finish(&mut conn, again.fence, false, later).await?);
    let next = claim(&mut conn, "w", LEASE, 1, later).await?.remove(0);
    let run = jobs::start_run(&mut conn, next.fence, RunId(random_v7()), later).await?;
    assert_eq!(run.request_id, request("next"));
    jobs::finish(&mut conn, next.fence, false, later).await?;
    // Nobody asks: the run is found by its own id.
    jobs::enqueue(&mut conn, [store], later).await?;
    let own = claim(&mut conn, "w", LEASE, 1, later).await?.remove(0);
    let run = jobs::start_run(&mut conn, own.fence, RunId(random_v7()), later).await?;
    assert_eq!(run.request_id, run.id.0.into());
    Ok(())
}

on_every_backend!(
    a_run_has_the_request_that_asked_for_it,
    a_store_never_has_two_jobs,
    work_that_arrives_during_a_run_makes_it_run_again,
    a_lost_lease_refuses_every_write,
    a_run_outlives_its_worker,
    a_failed_job_comes_back,
    the_scheduler_walks_every_store_once,
);
