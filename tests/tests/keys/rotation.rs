//! A new key comes in while the host works: nothing fails, and receivers notice nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{
    Backend, Host, Ledger, PATIENCE, Receiver, Shop, Site, eventually, on_every_backend,
};

use super::{NEW, OLD, act, id_of, public_key, register, status, verifies, with_key};

/// Clients that import, test a webhook and read it all the time, and count what fails.
struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    clients: tokio::task::JoinSet<()>,
}

impl Load {
    fn start(host: &Arc<Host>, shop: &Shop, webhooks: &[String]) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            calls: Arc::default(),
            failed: Arc::default(),
            clients: tokio::task::JoinSet::new(),
        };
        for client in 0..4_usize {
            let (stop, calls, failed) =
                (load.stop.clone(), load.calls.clone(), load.failed.clone());
            let (host, webhook) = (host.clone(), webhooks[client % webhooks.len()].clone());
            let token = shop.sync_token.clone();
            load.clients.spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let receipt = format!("order-{client}-{number}");
                    let import = json!({"syncToken": token, "receipt": receipt});
                    let answers = [
                        host.post("/orders/import", &import).await,
                        act(&host, &webhook, "test").await,
                        host.post("/stores/register", &Shop::registration("org", "etsy"))
                            .await,
                        host.get(&format!("/webhooks/{webhook}/secret?organizationId=org"))
                            .await,
                    ];
                    for answer in answers {
                        calls.fetch_add(1, Ordering::Relaxed);
                        if !answer.is_ok_and(|answer| answer.status < 300) {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        load
    }

    /// Waits until so many more calls were made.
    async fn goes_on(&self, more: usize) -> Result<()> {
        let before = self.calls.load(Ordering::Relaxed);
        let enough =
            || async { (self.calls.load(Ordering::Relaxed) >= before + more).then_some(()) };
        eventually("the load goes on", PATIENCE, enough).await
    }

    /// Returns how many calls there were, and how many failed.
    async fn end(mut self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let number = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (number(&self.calls), number(&self.failed))
    }
}

async fn a_new_key_comes_in_under_load(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let receiver = Receiver::start().await?;
    let mut host = with_key(&site, OLD).start().await?;
    let shop = Shop::open(&host, "org", "etsy").await?;
    let (mut webhooks, mut secrets, mut public_keys) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..6 {
        let (id, secret) = register(&host, &format!("{}/{number}", receiver.url())).await?;
        public_keys.push(public_key(&host, &id).await?);
        webhooks.push(id);
        secrets.push(secret);
    }
    ensure!(host.stop().await?.success());

    let both = format!("{NEW},{OLD}");
    // Clients that test a webhook all the time ask for more than anybody may by default.
    let host = with_key(&site, &both).env("WEBHOOK_TESTS_PER_MINUTE", "100000");
    let host = Arc::new(host.start().await?);
    let load = Load::start(&host, &shop, &webhooks[..4]);
    load.goes_on(20).await?;
    let reseal = || with_key(&site, &both).command(&["keys", "reseal", "--json"]);
    // Stopped half-way: the stores are through, the webhooks are not.
    let (ended, said) = reseal()
        .env("WHARF_FAILPOINT", "reseal.commit.after:1")
        .run()
        .await?;
    ensure!(!ended.success(), "it was to be stopped: {said}");
    let old = id_of(OLD);
    let in_use = status(&site, &both).await?;
    let of_old = in_use.iter().find(|line| line["keyId"] == old.as_str());
    ensure!(
        of_old.context("the old key")?["values"]["secrets"] != 0,
        "{in_use:?}"
    );
    load.goes_on(20).await?;
    let (ended, said) = reseal().run().await?;
    ensure!(ended.success(), "{said}");
    load.goes_on(20).await?;
    let (calls, failed) = load.end().await;
    ensure!(
        failed == 0,
        "{failed} of {calls} calls failed\n{}",
        host.logged()
    );

    let said: Value = serde_json::from_str(&said).context(said)?;
    ensure!(
        said["retiredKeys"] == json!([old]) && said["remainingValues"] == 0,
        "{said}"
    );
    let in_use = status(&site, &both).await?;
    ensure!(
        in_use.iter().all(|line| line["toReseal"] == 0),
        "{in_use:?}"
    );
    let mut host = Arc::into_inner(host).context("no client is left")?;
    ensure!(host.stop().await?.success());

    let (ended, said) = with_key(&site, OLD).run().await?;
    ensure!(
        !ended.success() && said.contains("WHARF_ENCRYPTION_KEY"),
        "{said}"
    );
    let host = with_key(&site, NEW).start().await?;
    for (number, webhook) in webhooks.iter().enumerate() {
        ensure!(
            public_key(&host, webhook).await? == public_keys[number],
            "it was told to receivers"
        );
        let tested = act(&host, webhook, "test").await?;
        let event = tested.get("eventId");
        let event = event.as_str().with_context(|| tested.text.clone())?;
        let found = || async {
            let requests = receiver.requests();
            requests
                .into_iter()
                .find(|one| one.header("x-event-id") == event)
        };
        let request = eventually("the webhook", PATIENCE, found).await?;
        ensure!(
            verifies(&request, &secrets[number]),
            "with the secret that the receiver has"
        );
    }
    let ledger = Ledger::open(&site).await?;
    let dead = ledger
        .number("select count(*) from callback_deliveries where state = 'failed'")
        .await?;
    ensure!(dead == 0, "{dead} dead letters");
    Ok(())
}

on_every_backend!(a_new_key_comes_in_under_load);
