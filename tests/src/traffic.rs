//! A site under load, and the account of what its hosts promised meanwhile.
//!
//! Clients import receipts and ask for runs without end, at whichever API answers; a receiver keeps every webhook. What
//! a client was answered with 200 is a promise; [`audit`](Traffic::audit) holds all promises against the database
//! and the receiver when the load has ended.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fastrand::Rng;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::interval};

use crate::{
    Answer, Backend, Host, Ledger, PATIENCE, Receiver, Shop, Site, client, eventually,
    model::Verdict,
};

/// Organizations, with a store at each marketplace.
const ORGANIZATIONS: [&str; 2] = ["north", "south"];
const MARKETPLACES: [&str; 2] = ["etsy", "amazon"];
const EVENTS: [&str; 3] = ["sync.started", "sync.completed", "sync.failed"];
/// One request a client, this often: enough to keep every worker busy, not so much that the machine is.
const PACE: Duration = Duration::from_millis(25);
/// Receipts end in these: orders, refusals and rate limits.
const ENDINGS: [&str; 8] = ["01", "03", "08", "12", "14", "21", "15", "24"];

/// The load and its account. Cheap to clone.
#[derive(Clone)]
pub struct Traffic(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) site: Arc<Site>,
    pub(crate) ledger: Ledger,
    pub(crate) receiver: Receiver,
    pub(crate) shops: Vec<Shop>,
    /// The key of each shop's organization, where the host asks for one.
    keys: Vec<Option<String>>,
    /// The signing secret of each endpoint, by its path.
    pub(crate) secrets: BTreeMap<String, String>,
    /// The organizations, as a list in SQL.
    pub(crate) organizations: String,
    apis: RwLock<Vec<String>>,
    pub(crate) promises: Mutex<BTreeMap<(String, String), Value>>,
    pub(crate) seen: Mutex<Seen>,
    pub(crate) wrong: Mutex<Vec<String>>,
    imports: Mutex<Imports>,
    refused: AtomicU64,
    broken: AtomicU64,
    stopped: AtomicBool,
    seed: u64,
}

/// Results of earlier audits: no later one may see less.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) logs: BTreeMap<String, (String, i64)>,
    pub(crate) deliveries: BTreeMap<String, (String, i64)>,
}

/// Imports that were answered 200.
#[derive(Debug, Default)]
pub struct Imports {
    /// The time from the first try to the answer of each, in no order.
    pub times: Vec<Duration>,
    /// How many of them did not get the marketplace's verdict.
    pub without_verdict: usize,
}

impl Imports {
    /// The time within which so many percent were answered. Zero if there are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        let rank = times.len() * percent / 100;
        times.get(rank).copied().unwrap_or_default()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Traffic {
    /// Registers stores and endpoints at a host. The receiver refuses about every eighth webhook when it first sees it.
    ///
    /// # Errors
    /// If the host refuses a registration.
    pub async fn open(host: &Host, seed: u64) -> Result<Self> {
        Self::of(host, &ORGANIZATIONS, seed).await
    }

    /// The same with these organizations. Whatever others have in the database is no business of the audit.
    ///
    /// # Errors
    /// If the host refuses a registration.
    pub async fn of(host: &Host, organizations: &[&str], seed: u64) -> Result<Self> {
        let receiver = Receiver::start().await?;
        refuse_some_at_first(&receiver);
        let (mut shops, mut keys, mut secrets) = (Vec::new(), Vec::new(), BTreeMap::new());
        for organization in organizations {
            let key = match host.is_guarded() {
                true => Some(
                    host.create_key(organization, "stores:write orders:write")
                        .await?,
                ),
                false => None,
            };
            for marketplace in MARKETPLACES {
                keys.push(key.clone());
                shops.push(Shop::open(host, organization, marketplace).await?);
            }
            for event in EVENTS {
                let path = format!("/webhook/{organization}/{event}");
                let url = format!("{}/{organization}/{event}", receiver.url());
                let endpoint =
                    json!({"organizationId": organization, "event": event, "targetUrl": url});
                let answer = host.post("/webhooks/register", &endpoint).await?;
                let secret = answer
                    .get("secret")
                    .as_str()
                    .context("no signing secret")?
                    .to_owned();
                secrets.insert(path, secret);
            }
        }
        let inner = Inner {
            site: host.site().clone(),
            ledger: Ledger::open(host.site()).await?,
            receiver,
            shops,
            keys,
            secrets,
            organizations: format!("'{}'", organizations.join("', '")),
            apis: RwLock::new(vec![host.base_url().to_owned()]),
            promises: Mutex::default(),
            seen: Mutex::default(),
            wrong: Mutex::default(),
            imports: Mutex::default(),
            refused: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            seed,
        };
        Ok(Self(Arc::new(inner)))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The stores.
    pub fn shops(&self) -> &[Shop] {
        &self.0.shops
    }

    /// The site's database.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// The receiver of every webhook.
    pub fn receiver(&self) -> &Receiver {
        &self.0.receiver
    }

    /// From now on the clients ask these hosts, in turns.
    pub fn ask(&self, apis: &[&str]) {
        let apis = apis.iter().map(|api| (*api).to_owned()).collect();
        *self.0.apis.write().unwrap_or_else(PoisonError::into_inner) = apis;
    }

    /// Starts the clients, and lets time pass for logs that wait for their next try.
    pub fn start(&self, clients: usize) -> JoinSet<()> {
        self.0.stopped.store(false, Ordering::SeqCst);
        let mut running = JoinSet::new();
        for number in 0..clients {
            running.spawn(self.clone().act_as_client(number));
        }
        running.spawn(self.clone().pass_time());
        running
    }

    /// Waits until so many more imports have been promised.
    ///
    /// # Errors
    /// If they are not.
    pub async fn goes_on(&self, more: usize) -> Result<()> {
        let wanted = lock(&self.0.promises).len() + more;
        let enough = || async { (lock(&self.0.promises).len() >= wanted).then_some(()) };
        eventually(&format!("{more} more imports"), PATIENCE, enough).await
    }

    /// Ends the load and waits until all that it caused is done: no job, event or delivery is unfinished.
    ///
    /// # Errors
    /// If something is never finished.
    pub async fn settle_down(&self, mut running: JoinSet<()>) -> Result<()> {
        self.0.stopped.store(true, Ordering::SeqCst);
        while let Some(ended) = running.join_next().await {
            ended.context("a client failed")?;
        }
        let (stores, ours) = (self.stores(), &self.0.organizations);
        let unfinished = format!(
            "select (select count(*) from sync_jobs where state <> 'idle' and store_id in ({stores})) as jobs,
            (select count(*) from callback_outbox
                where (status = 'pending' or due_at is not null) and organization_id in ({ours})) as events,
            (select count(*) from callback_deliveries where state = 'pending' and organization_id in ({ours})) as deliveries"
        );
        let finished = || async {
            let row = self.0.ledger.row(&unfinished).await.ok()?;
            ["jobs", "events", "deliveries"]
                .iter()
                .all(|name| row[*name] == 0)
                .then_some(())
        };
        let done = eventually("all work is finished", 3 * PATIENCE, finished).await;
        match done {
            Ok(()) => Ok(()),
            Err(error) => {
                let unfinished = self.0.ledger.row(&unfinished).await?;
                let deliveries = self.unfinished_deliveries().await?;
                Err(error.context(format!("{unfinished}, such as {deliveries:?}")))
            }
        }
    }

    async fn unfinished_deliveries(&self) -> Result<Vec<Value>> {
        let due = self.0.ledger.seconds("d.due_at");
        let select = format!(
            "select e.target_url, e.failures, d.attempt, d.last_error, {due} as due_in_seconds
            from callback_deliveries d join webhook_endpoints e on e.id = d.endpoint_id
            where d.state = 'pending' and d.organization_id in ({}) limit 3",
            self.0.organizations
        );
        self.0.ledger.rows(&select).await
    }

    /// The ids of the stores, as a query.
    pub(crate) fn stores(&self) -> String {
        format!(
            "select id from stores where organization_id in ({})",
            self.0.organizations
        )
    }

    /// The imports that were answered since this was last called.
    pub fn take_imports(&self) -> Imports {
        std::mem::take(&mut *lock(&self.0.imports))
    }

    /// Answers 503 and connections that broke, so far.
    pub fn troubles(&self) -> (u64, u64) {
        (
            self.0.refused.load(Ordering::SeqCst),
            self.0.broken.load(Ordering::SeqCst),
        )
    }

    async fn act_as_client(self, number: usize) {
        let client = client();
        let mut rng = Rng::with_seed(self.0.seed.wrapping_mul(1_000).wrapping_add(number as u64));
        let run = rng.u32(..);
        let mut pace = interval(PACE);
        let mut count = 0_u64;
        while !self.0.stopped.load(Ordering::SeqCst) {
            pace.tick().await;
            count += 1;
            let at = rng.usize(..self.0.shops.len());
            let (shop, key) = (&self.0.shops[at], self.0.keys[at].as_deref());
            if count.is_multiple_of(6) {
                let body = json!({"syncToken": shop.sync_token});
                self.until_answered(&client, &mut rng, ("/stores/sync", key), &body, 202)
                    .await;
                continue;
            }
            let receipt = format!(
                "{run}-{number}-{count}-{}",
                ENDINGS[rng.usize(..ENDINGS.len())]
            );
            let body = json!({"syncToken": shop.sync_token, "receipt": receipt});
            let asked = Instant::now();
            if let Some(answer) = self
                .until_answered(&client, &mut rng, ("/orders/import", key), &body, 200)
                .await
            {
                let verdict = Verdict::of(&receipt).error();
                let mut imports = lock(&self.0.imports);
                imports.times.push(asked.elapsed());
                imports.without_verdict += usize::from(answer.get("error") != verdict);
                drop(imports);
                lock(&self.0.promises).insert((shop.store_id.clone(), receipt), answer.json());
            }
        }
    }

    /// Repeats a request until it is answered as it should be. 503 with Retry-After and a broken connection are no
    /// answers; anything else is wrong.
    async fn until_answered(
        &self,
        client: &Client,
        rng: &mut Rng,
        (path, key): (&str, Option<&str>),
        body: &Value,
        wanted: u16,
    ) -> Option<Answer> {
        let mut pace = interval(PACE);
        loop {
            let api = {
                let apis = self.0.apis.read().unwrap_or_else(PoisonError::into_inner);
                apis[rng.usize(..apis.len())].clone()
            };
            let mut request = client.post(format!("{api}{path}")).json(body);
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            match Answer::to(request).await {
                Ok(answer) if answer.status == wanted => return Some(answer),
                Ok(answer) if answer.status == 503 && !answer.header("retry-after").is_empty() => {
                    self.0.refused.fetch_add(1, Ordering::SeqCst);
                }
                Ok(answer) => {
                    lock(&self.0.wrong).push(format!("{path}: {} {}", answer.status, answer.text));
                    return None;
                }
                Err(_) => {
                    self.0.broken.fetch_add(1, Ordering::SeqCst);
                }
            }
            pace.tick().await;
        }
    }

    /// Each second, logs that wait for their next try are due. Rows that a worker is writing are left for later.
    async fn pass_time(self) {
        let skip = if self.0.site.backend() == Backend::Postgres {
            "for update skip locked"
        } else {
            ""
        };
        let statement = format!(
            "update sync_logs set next_retry_at = {} where id in
                (select id from sync_logs where next_retry_at is not null and attempt < 4 and store_id in ({}) {skip})",
            self.0.ledger.time(-1),
            self.stores()
        );
        let mut seconds = interval(Duration::from_secs(1));
        while !self.0.stopped.load(Ordering::SeqCst) {
            seconds.tick().await;
            // The database may be away just now.
            let _ = self.0.ledger.execute(&statement).await;
        }
    }
}

fn refuse_some_at_first(receiver: &Receiver) {
    let met = Mutex::new(std::collections::HashSet::new());
    receiver.answer_with(move |request| {
        let key = (
            request.uri.path().to_owned(),
            request.header("x-event-id").to_owned(),
        );
        let unlucky = key.1.bytes().map(u32::from).sum::<u32>().is_multiple_of(8);
        if unlucky && lock(&met).insert(key) {
            reqwest::StatusCode::INTERNAL_SERVER_ERROR
        } else {
            reqwest::StatusCode::OK
        }
    });
}
