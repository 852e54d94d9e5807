//! One suite for both backends. Redis is the one at `WHARF_TEST_REDIS_URL`, or a private one per test.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::server::{Server, heard};
use anyhow::Result;
use wharf_domain::{StoreId, uuid_v4};
use wharf_queue::{Acquired, Counters, Doorbell, Guard, Lock, Queue, Settings, Woken};

const LONG: Duration = Duration::from_secs(60);
const BRIEF: Duration = Duration::from_millis(50);

/// Two doorbells of one installation: two processes with Redis, two clones in process.
struct Pair {
    here: Doorbell,
    there: Doorbell,
    _server: Option<Server>,
}

impl Pair {
    fn in_process() -> Self {
        let here = Doorbell::in_process();
        Self {
            there: here.clone(),
            here,
            _server: None,
        }
    }

    async fn redis() -> Result<Self> {
        let (url, server) = match std::env::var("WHARF_TEST_REDIS_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                let server = Server::running().await?;
                (server.url(), Some(server))
            }
        };
        let settings = Settings {
            key_prefix: format!("test-{}:", uuid::Uuid::new_v4()),
            ..Settings::default()
        };
        let here = Doorbell::connect(&url, settings.clone())?;
        let there = Doorbell::connect(
            &url,
            Settings {
                consumer: "there".into(),
                ..settings
            },
        )?;
        Ok(Self {
            here,
            there,
            _server: server,
        })
    }
}

macro_rules! on_both {
    ($($name:ident)*) => {
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> anyhow::Result<()> {
                super::$name(super::Pair::in_process()).await
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> anyhow::Result<()> {
                super::$name(super::Pair::redis().await?).await
            })*
        }
    };
}

on_both! {
    a_ring_wakes_a_listener_that_waits
    a_ring_from_before_the_wait_is_kept
    a_job_rings_once_until_it_is_heard_and_then_again
    the_queues_are_apart
    a_wait_ends_in_time
    each_ring_goes_to_one_of_two_listeners
    a_burst_wakes_more_than_one_listener
    a_cancelled_wait_loses_nothing
    a_lock_excludes_until_it_is_released
    a_lock_ends_with_its_time_and_its_owner_with_it
    an_extended_lock_outlives_its_first_time
    locks_of_stores_are_apart
    it_answers_pings_and_counts_rings
}

async fn a_ring_wakes_a_listener_that_waits(pair: Pair) -> Result<()> {
    let mut listener = pair.there.listener(Queue::SyncStore);
    let waiting = tokio::spawn(async move { listener.wait(LONG).await });
    pair.here.ring(Queue::SyncStore, "store:1");
    assert_eq!(waiting.await?, Woken::Rung(vec!["store:1".into()]));
    Ok(())
}

async fn a_ring_from_before_the_wait_is_kept(pair: Pair) -> Result<()> {
    pair.here.ring(Queue::Callback, "before any listener");
    let mut listener = pair.there.listener(Queue::Callback);
    assert_eq!(heard(&mut listener).await, ["before any listener"]);
    pair.here.ring(Queue::Callback, "between two waits");
    assert_eq!(heard(&mut listener).await, ["between two waits"]);
    Ok(())
}

async fn a_job_rings_once_until_it_is_heard_and_then_again(pair: Pair) -> Result<()> {
    let mut listener = pair.there.listener(Queue::SyncStore);
    for _ in 0..2 {
        pair.here.ring(Queue::SyncStore, "store:1");
        pair.here.ring(Queue::SyncStore, "store:1");
        pair.here.ring(Queue::SyncStore, "store:2");
        assert!(pair.here.flush(LONG).await);
        let mut jobs = heard(&mut listener).await;
        if jobs.len() == 1 {
            // A read that was under way took the first before the second was there.
            jobs.extend(heard(&mut listener).await);
        }
        assert_eq!(jobs, ["store:1", "store:2"]);
        assert_eq!(listener.wait(BRIEF).await, Woken::Timeout);
    }
    Ok(())
}

async fn the_queues_are_apart(pair: Pair) -> Result<()> {
    let mut sync = pair.there.listener(Queue::SyncStore);
    let mut callback = pair.there.listener(Queue::Callback);
    pair.here.ring(Queue::SyncStore, "same id");
    pair.here.ring(Queue::Callback, "same id");
    assert_eq!(heard(&mut sync).await, ["same id"]);
    assert_eq!(heard(&mut callback).await, ["same id"]);
    assert_eq!(sync.wait(BRIEF).await, Woken::Timeout);
    Ok(())
}

async fn a_wait_ends_in_time(pair: Pair) -> Result<()> {
    let mut listener = pair.here.listener(Queue::SyncStore);
    for max in [0, 1, 50, 300].map(Duration::from_millis) {
        let begun = Instant::now();
        assert_eq!(listener.wait(max).await, Woken::Timeout);
        let took = begun.elapsed();
        assert!(
            took >= max && took < max + Duration::from_millis(500),
            "{max:?} took {took:?}"
        );
    }
    Ok(())
}

async fn each_ring_goes_to_one_of_two_listeners(pair: Pair) -> Result<()> {
    const JOBS: usize = 500;
    let listen = |doorbell: &Doorbell| {
        let mut listener = doorbell.listener(Queue::Callback);
        tokio::spawn(async move {
            let mut jobs = Vec::new();
            while let Woken::Rung(more) = listener.wait(Duration::from_secs(1)).await {
                jobs.extend(more);
            }
            jobs
        })
    };
    let (one, two) = (listen(&pair.here), listen(&pair.there));
    for job in 0..JOBS {
        pair.here.ring(Queue::Callback, &job.to_string());
    }
    let jobs = [one.await?, two.await?].concat();
    assert_eq!(jobs.len(), JOBS, "none was heard twice");
    assert_eq!(
        jobs.into_iter().collect::<BTreeSet<_>>().len(),
        JOBS,
        "all were heard"
    );
    Ok(())
}

async fn a_burst_wakes_more_than_one_listener(pair: Pair) -> Result<()> {
    for job in 0..20 {
        pair.here.ring(Queue::SyncStore, &job.to_string());
    }
    assert!(pair.here.flush(LONG).await);
    let first = heard(&mut pair.here.listener(Queue::SyncStore)).await;
    let second = heard(&mut pair.there.listener(Queue::SyncStore)).await;
    assert_eq!((first.len(), second.len()), (16, 4));
    Ok(())
}

async fn a_cancelled_wait_loses_nothing(pair: Pair) -> Result<()> {
    let mut listener = pair.there.listener(Queue::SyncStore);
    for round in 0..50 {
        let job = format!("round-{round}");
        // The wait is cancelled at another moment in every round: before, while and after the ring arrives.
        let early = tokio::select! {
            woken = listener.wait(LONG) => Some(woken),
            () = async {
                pair.here.ring(Queue::SyncStore, &job);
                tokio::time::sleep(Duration::from_micros(round * 40)).await;
            } => None,
        };
        let woken = match early {
            Some(woken) => woken,
            None => listener.wait(LONG).await,
        };
        assert_eq!(woken, Woken::Rung(vec![job]));
    }
    Ok(())
}

fn store(number: u8) -> StoreId {
    StoreId(uuid_v4([number; 16]))
}

async fn held(lock: &Lock, store: StoreId, ttl: Duration) -> Guard {
    match lock.acquire(store, ttl).await {
        Acquired::Held(guard) => guard,
        other => panic!("the lock should be free: {other:?}"),
    }
}

async fn a_lock_excludes_until_it_is_released(pair: Pair) -> Result<()> {
    let guard = held(&pair.here.lock(), store(1), LONG).await;
    assert!(matches!(
        pair.there.lock().acquire(store(1), LONG).await,
        Acquired::Busy
    ));
    assert!(
        matches!(
            pair.here.lock().acquire(store(1), LONG).await,
            Acquired::Busy
        ),
        "not even its own process"
    );
    assert!(guard.extend(LONG).await?);
    assert!(guard.release().await?);
    assert!(
        held(&pair.there.lock(), store(1), LONG)
            .await
            .release()
            .await?
    );
    Ok(())
}

async fn a_lock_ends_with_its_time_and_its_owner_with_it(pair: Pair) -> Result<()> {
    let begun = Instant::now();
    let unwanted = held(&pair.here.lock(), store(2), BRIEF).await;
    let late = held(&pair.here.lock(), store(1), BRIEF).await;
    let next = loop {
        match pair.there.lock().acquire(store(1), LONG).await {
            Acquired::Held(guard) => break guard,
            Acquired::Busy => assert!(begun.elapsed() < LONG),
            Acquired::Unavailable(error) => return Err(error.into()),
        }
    };
    // Redis counts in whole milliseconds.
    assert!(
        begun.elapsed() + Duration::from_millis(2) >= BRIEF,
        "not before its time"
    );
    assert!(
        !late.extend(LONG).await?,
        "an expired owner cannot extend the lock of the next"
    );
    assert!(!late.release().await?, "nor release it");
    assert!(matches!(
        pair.here.lock().acquire(store(1), LONG).await,
        Acquired::Busy
    ));
    assert!(next.extend(LONG).await?);
    assert!(
        !unwanted.extend(LONG).await?,
        "nor bring its own back to life"
    );
    assert!(!unwanted.release().await?);
    Ok(())
}

async fn an_extended_lock_outlives_its_first_time(pair: Pair) -> Result<()> {
    let guard = held(&pair.here.lock(), store(1), Duration::from_millis(500)).await;
    assert!(guard.extend(LONG).await?);
    let witness = held(&pair.here.lock(), store(2), Duration::from_millis(600)).await;
    let begun = Instant::now();
    while witness_lives(&pair, store(2)).await {
        assert!(begun.elapsed() < LONG);
    }
    drop(witness);
    assert!(matches!(
        pair.there.lock().acquire(store(1), LONG).await,
        Acquired::Busy
    ));
    assert!(guard.release().await?);
    Ok(())
}

/// Whether a lock that was taken later, for longer than the first time of the other, is still held.
async fn witness_lives(pair: &Pair, store: StoreId) -> bool {
    matches!(pair.there.lock().acquire(store, LONG).await, Acquired::Busy)
}

async fn locks_of_stores_are_apart(pair: Pair) -> Result<()> {
    let one = held(&pair.here.lock(), store(1), LONG).await;
    let two = held(&pair.there.lock(), store(2), LONG).await;
    assert!(one.release().await?);
    assert!(two.extend(LONG).await?);
    Ok(())
}

async fn it_answers_pings_and_counts_rings(pair: Pair) -> Result<()> {
    pair.here.ping().await?;
    let clone = pair.here.clone();
    clone.ring(Queue::SyncStore, "one");
    clone.ring(Queue::Callback, "two");
    assert!(pair.here.flush(LONG).await);
    assert_eq!(
        pair.here.counters(),
        Counters {
            rings: 2,
            ring_failures: 0,
            reconnects: 0
        }
    );
    Ok(())
}
