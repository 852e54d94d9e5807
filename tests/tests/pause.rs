//! Workers that are paused in mid-work for twice their lease, while others finish it: what they do when they go on.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{
    Backend, Host, HostBuilder, Ledger, PATIENCE, Receiver, Shop, Signal, Site, eventually,
};

const LEASE: Duration = Duration::from_secs(1);
const RECEIPTS: usize = 8;

struct Scene {
    api: Host,
    ledger: Ledger,
    receiver: Receiver,
    shop: Shop,
}

/// A store with logs that are due, and an endpoint that is told when its run has ended.
async fn set() -> Result<Scene> {
    let site = Site::open(Backend::Postgres).await?;
    let api = site.host().role("api").start().await?;
    let receiver = Receiver::start().await?;
    let shop = Shop::open(&api, "org", "etsy").await?;
    for number in 0..RECEIPTS {
        shop.import(&api, &format!("r-{number}-02")).await?;
    }
    let endpoint =
        json!({"organizationId": "org", "event": "sync.failed", "targetUrl": receiver.url()});
    api.post("/webhooks/register", &endpoint).await?;
    let ledger = Ledger::open(&site).await?;
    Ok(Scene {
        api,
        ledger,
        receiver,
        shop,
    })
}

impl Scene {
    fn worker(&self, role: &str) -> HostBuilder {
        self.api.site().host().role(role).env("LEASE", "1s")
    }

    /// Starts a worker that pauses itself at the failpoint, and waits until it has.
    async fn paused(&self, role: &str, failpoint: &str) -> Result<Host> {
        let host = self
            .worker(role)
            .env("WHARF_FAILPOINT", &format!("{failpoint}:stop"))
            .spawn()?;
        let stat = format!("/proc/{}/stat", host.pid());
        let is_stopped = || async {
            let stat = fs::read_to_string(&stat).ok()?;
            stat.rsplit(") ").next()?.starts_with('T').then_some(())
        };
        eventually(
            &format!("{role} pauses at {failpoint}"),
            2 * PATIENCE,
            is_stopped,
        )
        .await?;
        Ok(host)
    }

    /// All that a stale worker could spoil.
    async fn state(&self) -> Result<Vec<Value>> {
        let mut state = self
            .ledger
            .rows("select * from sync_logs order by receipt")
            .await?;
        for table in [
            "stores",
            "sync_jobs",
            "callback_outbox",
            "callback_deliveries",
            "callback_attempts",
        ] {
            state.extend(
                self.ledger
                    .rows(&format!("select * from {table} order by 1"))
                    .await?,
            );
        }
        Ok(state)
    }

    async fn count(&self, table_and_condition: &str) -> Result<Value> {
        let mut row = self
            .ledger
            .row(&format!(
                "select count(*) as number from {table_and_condition}"
            ))
            .await?;
        Ok(row["number"].take())
    }
}

/// Lets a paused worker go on: it must write nothing, say so, and be of use afterwards.
async fn goes_on_and_writes_nothing(
    scene: &Scene,
    stale: &mut Host,
    rescuer: &mut Host,
) -> Result<()> {
    ensure!(rescuer.stop().await?.success());
    let before = scene.state().await?;
    stale.signal(Signal::CONT)?;
    let refused = || async {
        stale
            .log()
            .iter()
            .any(|line| line.message().starts_with("stale_write_refused"))
            .then_some(())
    };
    eventually(
        "the stale worker says that its write was refused",
        PATIENCE,
        refused,
    )
    .await?;
    assert_eq!(
        scene.state().await?,
        before,
        "a stale worker wrote something"
    );
    Ok(())
}

async fn a_sync_worker_is_paused_at(failpoint: &str) -> Result<()> {
    let scene = set().await?;
    scene.shop.request_sync(&scene.api).await?;
    let mut stale = scene.paused("sync-worker", failpoint).await?;
    let paused = Instant::now();
    let mut rescuer = scene.worker("sync-worker").start().await?;
    let done = "select * from sync_jobs where state = 'idle'";
    let finished = || async {
        scene
            .ledger
            .row(done)
            .await
            .ok()
            .filter(|_| paused.elapsed() > 2 * LEASE)
    };
    eventually("another worker finishes the job", PATIENCE, finished).await?;
    println!(
        "{failpoint}: another worker finished within {:?} of the pause",
        paused.elapsed()
    );
    goes_on_and_writes_nothing(&scene, &mut stale, &mut rescuer).await?;
    assert_eq!(
        scene.count("sync_logs where attempt = 2").await?,
        RECEIPTS,
        "each log was asked about once more"
    );
    assert_eq!(
        scene
            .count("callback_outbox where event = 'sync.started'")
            .await?,
        1
    );
    assert_eq!(
        scene
            .count("callback_outbox where event = 'sync.failed'")
            .await?,
        1
    );
    scene.shop.import(&scene.api, "another-02").await?;
    scene.shop.request_sync(&scene.api).await?;
    scene
        .ledger
        .wait_for("select * from sync_logs where receipt = 'another-02' and attempt = 2")
        .await?;
    assert!(stale.stop().await?.success());
    Ok(())
}

#[test]
fn a_sync_worker_paused_between_plugin_calls_writes_nothing_stale() -> Result<()> {
    wharf_tests::run(a_sync_worker_is_paused_at("plugin.call.after:3"))
}

/// Its transaction is open and holds rows that the other worker needs: the database must end it.
#[test]
fn a_sync_worker_paused_before_its_commit_is_not_waited_for() -> Result<()> {
    wharf_tests::run(async {
        let scene = set().await?;
        scene.shop.request_sync(&scene.api).await?;
        let stale = scene.paused("sync-worker", "sync.commit.before:1").await?;
        let paused = Instant::now();
        let mut rescuer = scene.worker("sync-worker").start().await?;
        scene
            .ledger
            .wait_for("select * from sync_jobs where state = 'idle'")
            .await?;
        println!(
            "sync.commit.before: another worker finished within {:?} of the pause",
            paused.elapsed()
        );
        assert!(rescuer.stop().await?.success());
        let before = scene.state().await?;
        stale.signal(Signal::CONT)?;
        stale.logged_message("job_interrupted").await?;
        assert_eq!(
            scene.state().await?,
            before,
            "a stale worker wrote something"
        );
        assert_eq!(scene.count("sync_logs where attempt = 2").await?, RECEIPTS);
        Ok(())
    })
}

#[test]
fn a_callback_worker_paused_after_the_answer_settles_nothing_stale() -> Result<()> {
    wharf_tests::run(async {
        let scene = set().await?;
        let mut syncs = scene.worker("sync-worker").start().await?;
        scene.shop.request_sync(&scene.api).await?;
        scene
            .ledger
            .wait_for("select * from callback_outbox where event = 'sync.failed'")
            .await?;
        ensure!(syncs.stop().await?.success());
        let mut stale = scene.paused("callback-worker", "response.after:1").await?;
        let paused = Instant::now();
        let mut rescuer = scene.worker("callback-worker").start().await?;
        let done = "select * from callback_deliveries where state = 'success'";
        let finished = || async {
            scene
                .ledger
                .row(done)
                .await
                .ok()
                .filter(|_| paused.elapsed() > 2 * LEASE)
        };
        eventually("another worker delivers", PATIENCE, finished).await?;
        println!(
            "response.after: another worker delivered within {:?} of the pause",
            paused.elapsed()
        );
        goes_on_and_writes_nothing(&scene, &mut stale, &mut rescuer).await?;
        let received = scene.receiver.requests();
        assert_eq!(received.len(), 2, "once by each");
        assert_eq!(received[0].body, received[1].body);
        assert_eq!(
            scene
                .count("callback_attempts where http_status = 200")
                .await?,
            1
        );
        let lost = "callback_attempts where attempt = 1 and http_status is null";
        assert_eq!(
            scene.count(lost).await?,
            1,
            "the one that was not heard of again"
        );
        Ok(())
    })
}
