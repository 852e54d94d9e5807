//! What Redis may do to us: be away, die, forget, drop connections, stall, go silent. Always on a private server.

use std::time::{Duration, Instant};

use crate::server::{RESUME, Server, resumes};
use anyhow::Result;
use wharf_domain::{StoreId, uuid_v4};
use wharf_queue::{Acquired, Doorbell, Error, Queue, Settings, Woken};

const POLL: Duration = Duration::from_millis(200);

/// What a ring may cost its caller, whatever Redis does. It is a push into memory; the rest is this machine's load.
const RING_BOUND: Duration = Duration::from_millis(100);

const STORE: StoreId = StoreId(uuid::Uuid::nil());

async fn unavailable_soon(doorbell: &Doorbell) {
    let begun = Instant::now();
    let answer = doorbell.lock().acquire(STORE, RESUME).await;
    assert!(matches!(answer, Acquired::Unavailable(_)), "{answer:?}");
    assert!(
        begun.elapsed() < Duration::from_millis(1_500),
        "{:?}",
        begun.elapsed()
    );
    assert!(doorbell.ping().await.is_err());
}

fn ring_is_quick(doorbell: &Doorbell, job: &str) {
    let begun = Instant::now();
    doorbell.ring(Queue::SyncStore, job);
    assert!(begun.elapsed() < RING_BOUND, "{:?}", begun.elapsed());
}

#[test]
fn a_malformed_address_is_an_error_without_secrets() {
    for url in [
        "",
        "redis:/",
        "http://127.0.0.1:6379",
        "redis://:hunter2@",
        "rediss://:hunter2@",
    ] {
        let error = Doorbell::connect(url, Settings::default()).expect_err(url);
        assert!(matches!(error, Error::Address(_)), "{url}: {error:?}");
        assert!(!format!("{:?}", anyhow::Error::from(error)).contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_without_redis_and_finds_it_later() -> Result<()> {
    let mut server = Server::stopped()?;
    let doorbell = server.doorbell()?;
    let mut listener = doorbell.listener(Queue::SyncStore);
    ring_is_quick(&doorbell, "nobody hears this");
    assert!(doorbell.flush(RESUME).await);
    assert_eq!(doorbell.counters().ring_failures, 1);
    let begun = Instant::now();
    assert_eq!(listener.wait(POLL).await, Woken::Timeout);
    assert!(begun.elapsed() >= POLL, "the caller polls at its own pace");
    unavailable_soon(&doorbell).await;

    server.start().await?;
    resumes(&doorbell, &mut listener).await;
    doorbell.ping().await?;
    assert!(matches!(
        doorbell.lock().acquire(STORE, RESUME).await,
        Acquired::Held(_)
    ));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_resumes_after_redis_was_killed_in_mid_wait() -> Result<()> {
    let mut server = Server::running().await?;
    let doorbell = server.doorbell()?;
    let mut listener = doorbell.listener(Queue::SyncStore);
    resumes(&doorbell, &mut listener).await;
    let Acquired::Held(guard) = doorbell.lock().acquire(STORE, RESUME).await else {
        panic!("the lock is free")
    };
    assert_eq!(listener.wait(POLL).await, Woken::Timeout);
    for _ in 0..3 {
        let (woken, killed) = tokio::join!(listener.wait(POLL), async { server.kill() });
        killed?;
        assert_eq!(woken, Woken::Timeout);
        ring_is_quick(&doorbell, "away");
        unavailable_soon(&doorbell).await;
        server.start().await?;
        resumes(&doorbell, &mut listener).await;
        assert!(
            !guard.extend(RESUME).await?,
            "the lock was forgotten with everything else"
        );
    }
    assert!(
        doorbell.counters().reconnects >= 3,
        "{:?}",
        doorbell.counters()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_resumes_after_redis_forgot_everything() -> Result<()> {
    let server = Server::running().await?;
    let doorbell = server.doorbell()?;
    let mut listener = doorbell.listener(Queue::SyncStore);
    for command in [
        &["FLUSHALL"][..],
        &["XGROUP", "DESTROY", "sync-store-queue", "workers"],
        &["SCRIPT", "FLUSH"],
    ] {
        resumes(&doorbell, &mut listener).await;
        let (_, done) = tokio::join!(listener.wait(POLL), server.ask(command));
        done?;
        resumes(&doorbell, &mut listener).await;
    }
    assert_eq!(doorbell.counters().ring_failures, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_resumes_after_all_clients_were_killed() -> Result<()> {
    let server = Server::running().await?;
    let doorbell = server.doorbell()?;
    let mut listener = doorbell.listener(Queue::SyncStore);
    let Acquired::Held(guard) = doorbell
        .lock()
        .acquire(STORE, Duration::from_secs(60))
        .await
    else {
        panic!("free")
    };
    for _ in 0..5 {
        resumes(&doorbell, &mut listener).await;
        let (_, killed) = tokio::join!(
            listener.wait(POLL),
            server.ask(&["CLIENT", "KILL", "TYPE", "normal"])
        );
        killed?;
        assert!(
            guard.extend(Duration::from_secs(60)).await?,
            "the first command after a drop is tried again"
        );
        resumes(&doorbell, &mut listener).await;
    }
    assert_eq!(
        doorbell.counters().ring_failures,
        0,
        "rings are tried again too"
    );
    Ok(())
}

async fn stall(command: &[&str], length: Duration) -> Result<()> {
    let server = Server::running().await?;
    let doorbell = server.doorbell()?;
    let mut listener = doorbell.listener(Queue::SyncStore);
    resumes(&doorbell, &mut listener).await;
    let begun = Instant::now();
    let stalled = async {
        server.ask(command).await?;
        // PAUSE answers at once and SLEEP at its end; the next answer comes after either.
        server.ask(&["GET", "x"]).await
    };
    let busy = async {
        let mut round = 0;
        while begun.elapsed() < length {
            ring_is_quick(&doorbell, &format!("stalled-{round}"));
            round += 1;
            let waited = Instant::now();
            listener.wait(POLL).await;
            assert!(
                waited.elapsed() < POLL + Duration::from_millis(300),
                "{:?}",
                waited.elapsed()
            );
        }
    };
    let (answer, ()) = tokio::join!(stalled, busy);
    answer?;
    resumes(&doorbell, &mut listener).await;
    doorbell.ping().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sits_out_a_pause_of_500_ms() -> Result<()> {
    stall(&["CLIENT", "PAUSE", "500"], Duration::from_millis(500)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sits_out_a_pause_of_5_s() -> Result<()> {
    stall(&["CLIENT", "PAUSE", "5000"], Duration::from_secs(5)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sits_out_a_sleep_of_500_ms() -> Result<()> {
    stall(&["DEBUG", "SLEEP", "0.5"], Duration::from_millis(500)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sits_out_a_sleep_of_5_s() -> Result<()> {
    stall(&["DEBUG", "SLEEP", "5"], Duration::from_secs(5)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_holds_nobody_up() -> Result<()> {
    // It accepts connections, in its backlog, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let doorbell = Doorbell::connect(
        &format!("redis://{}", silent.local_addr()?),
        Settings::default(),
    )?;
    let mut listener = doorbell.listener(Queue::SyncStore);
    for job in 0..10_000 {
        ring_is_quick(&doorbell, &job.to_string());
    }
    let counters = doorbell.counters();
    assert!(
        counters.ring_failures > 5_000,
        "the inbox is bounded: {counters:?}"
    );
    let begun = Instant::now();
    assert_eq!(listener.wait(POLL).await, Woken::Timeout);
    assert!(begun.elapsed() < POLL + RING_BOUND);
    unavailable_soon(&doorbell).await;
    assert!(!doorbell.flush(POLL).await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_is_trimmed() -> Result<()> {
    let server = Server::running().await?;
    let doorbell = server.doorbell()?;
    for burst in 0..6 {
        for job in 0..4_000 {
            doorbell.ring(Queue::Callback, &format!("{burst}-{job}"));
        }
        assert!(doorbell.flush(Duration::from_secs(10)).await);
    }
    assert_eq!(doorbell.counters().ring_failures, 0);
    let length: usize = redis::from_redis_value(server.ask(&["XLEN", "callback-queue"]).await?)?;
    assert!((10_000..11_000).contains(&length), "{length}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_in_redis_once_it_was_heard() -> Result<()> {
    let server = Server::running().await?;
    let doorbell = server.doorbell()?;
    let mut listener = doorbell.listener(Queue::SyncStore);
    let id = StoreId(uuid_v4([3; 16]));
    let Acquired::Held(guard) = doorbell.lock().acquire(id, RESUME).await else {
        panic!("the lock is free")
    };
    let key = format!("lock:sync-store:{id}");
    assert_eq!(
        server.ask(&["EXISTS", &key]).await?,
        redis::Value::Int(1),
        "the name that operators know"
    );
    guard.release().await?;
    doorbell.ring(Queue::SyncStore, "store:1");
    assert_eq!(
        listener.wait(RESUME).await,
        Woken::Rung(vec!["store:1".into()])
    );
    let keys: Vec<String> = redis::from_redis_value(server.ask(&["KEYS", "*"]).await?)?;
    assert_eq!(keys, ["sync-store-queue"]);
    assert_eq!(
        server.ask(&["XLEN", "sync-store-queue"]).await?,
        redis::Value::Int(0)
    );
    Ok(())
}
