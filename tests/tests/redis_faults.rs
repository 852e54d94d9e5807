//! A Redis that is flushed, stalled, killed and restarted: API clients notice nothing, workers go on within two seconds.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    task::JoinHandle,
    time::interval,
};
use wharf_tests::{Backend, Host, PATIENCE, Proxy, Receiver, Shop, Site, eventually, fault_lasts};

/// Without news, a worker looks once a second for jobs and once a second for webhooks.
const RESUMED: Duration = Duration::from_secs(2);
/// Delay that a debug build on a busy machine may add.
const BUSY: Duration = Duration::from_secs(2);

/// A Redis of this test's own: what happens to it happens to nobody else.
struct Redis {
    port: u16,
    dir: TempDir,
    server: Child,
}

impl Redis {
    async fn start() -> Result<Self> {
        let dir = TempDir::new()?;
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let server = Self::spawn(port, &dir)?;
        let redis = Self { port, dir, server };
        redis.answers().await?;
        Ok(redis)
    }

    fn spawn(port: u16, dir: &TempDir) -> Result<Child> {
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        command.spawn().context("redis-server cannot be started")
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    async fn tell(&self, words: &[&str]) -> Result<()> {
        let mut connection = redis::Client::open(self.url())?
            .get_multiplexed_async_connection()
            .await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        Ok(command.exec_async(&mut connection).await?)
    }

    async fn answers(&self) -> Result<()> {
        eventually("Redis answers", PATIENCE, || async {
            self.tell(&["PING"]).await.ok()
        })
        .await
    }
}

/// A client that imports without end, whatever happens to Redis.
struct Client {
    done: Arc<AtomicBool>,
    task: JoinHandle<Result<(u32, Duration)>>,
}

impl Client {
    fn start(host: &Arc<Host>, shop: &Shop) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (host, shop, end) = (host.clone(), shop.clone(), done.clone());
        let task = tokio::spawn(async move {
            let (mut count, mut slowest) = (0, Duration::ZERO);
            let mut pace = interval(Duration::from_millis(20));
            while !end.load(Ordering::SeqCst) {
                pace.tick().await;
                count += 1;
                let asked = Instant::now();
                shop.import(&host, &format!("client-{count}-01")).await?;
                if count % 5 == 0 {
                    shop.request_sync(&host).await?;
                }
                slowest = slowest.max(asked.elapsed());
            }
            Ok((count, slowest))
        });
        Self { done, task }
    }

    async fn end(self) -> Result<(u32, Duration)> {
        self.done.store(true, Ordering::SeqCst);
        self.task.await?
    }
}

struct Scene {
    host: Arc<Host>,
    receiver: Receiver,
    stores: u32,
}

impl Scene {
    /// Measures one whole piece of work: an import that is refused, its run, its webhook.
    async fn work(&mut self, when: &str) -> Result<Duration> {
        self.stores += 1;
        let mut registration = Shop::registration("org", "etsy");
        registration["externalStoreId"] = json!(format!("store-{}", self.stores));
        let shop = Shop::register(&self.host, &registration).await?;
        let began = Instant::now();
        shop.import(&self.host, "r-02").await?;
        shop.request_sync(&self.host).await?;
        let told = || async {
            self.receiver
                .requests()
                .into_iter()
                .any(|request| request.json()["storeId"] == shop.store_id)
                .then_some(())
        };
        eventually(&format!("a webhook {when}"), PATIENCE, told).await?;
        let took = began.elapsed();
        println!(
            "{when}: {} ms from the import to the webhook",
            took.as_millis()
        );
        Ok(took)
    }

    async fn resumes(&mut self, when: &str) -> Result<()> {
        let took = self.work(when).await?;
        ensure!(took <= RESUMED + BUSY, "{when}: {took:?}");
        Ok(())
    }
}

#[test]
fn redis_may_fail_in_every_way() -> Result<()> {
    wharf_tests::run(async {
        let mut redis = Redis::start().await?;
        let wire = Proxy::to(&redis.url()).await?;
        let site = Site::open(Backend::Postgres).await?;
        let here = |host: wharf_tests::HostBuilder| host.env("REDIS_URL", wire.url());
        let api = Arc::new(here(site.host().role("api")).start().await?);
        let workers = here(site.host().role("sync-worker").role("sync-scheduler"));
        let _workers = workers
            .role("callback-worker")
            .role("callback-scheduler")
            .start()
            .await?;
        let receiver = Receiver::start().await?;
        let endpoint =
            json!({"organizationId": "org", "event": "sync.failed", "targetUrl": receiver.url()});
        api.post("/webhooks/register", &endpoint).await?;
        let client = Client::start(&api, &Shop::open(&api, "client", "amazon").await?);
        let mut scene = Scene {
            host: api,
            receiver,
            stores: 0,
        };

        scene.resumes("with Redis").await?;
        redis.tell(&["FLUSHALL"]).await?;
        scene.resumes("after FLUSHALL").await?;
        redis.tell(&["CLIENT", "KILL", "TYPE", "normal"]).await?;
        scene.resumes("after CLIENT KILL").await?;
        for stall in [Duration::from_millis(500), Duration::from_secs(5)] {
            wire.stall();
            let (over, during) = tokio::join!(fault_lasts(stall), scene.work("with Redis stalled"));
            let () = over;
            during?;
            wire.open();
            scene
                .resumes(&format!("after a stall of {stall:?}"))
                .await?;
        }
        wire.cut();
        scene.resumes("with Redis out of reach").await?;
        wire.open();
        scene.resumes("with Redis within reach again").await?;
        redis.server.kill().await?;
        scene.resumes("with Redis killed").await?;
        redis.server = Redis::spawn(redis.port, &redis.dir)?;
        redis.answers().await?;
        scene.resumes("with Redis started again").await?;

        let (count, slowest) = client.end().await?;
        println!("{count} imports and no error; the slowest took {slowest:?}");
        ensure!(
            slowest < Duration::from_secs(5),
            "an API client waited for Redis: {slowest:?}"
        );
        Ok(())
    })
}
