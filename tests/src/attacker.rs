//! One hostile organization that does to a host whatever its API and its plugins let it do, all at once.
//!
//! Everything goes to loopback, at a pace, and ends when the [`Attack`] is dropped.

mod plugins;

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, future, stream};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::interval,
};

use self::plugins::{install, poison};
use crate::{
    Answer, Host, RawServer, Shop, Site, client_with, compile_bomb, guest,
    traffic::lock,
    zoo,
    zoo::{Animal, Certificates},
};

/// Marketplaces whose adapters are slow, all at once.
const SLOW: [&str; 4] = ["slow-a", "slow-b", "slow-c", "slow-d"];
const EVENTS: [&str; 3] = ["sync.started", "sync.completed", "sync.failed"];
/// More than an organization may have by default.
const MAX_ENDPOINTS: usize = 1_200;
/// Half requests that are held open, of heads and of bodies each.
const HALF_REQUESTS: usize = 100;
/// Runs that it asks for: each makes two events for all its endpoints, and rows must stay countable in the long form.
const MAX_SYNCS: usize = 300;
/// Bytes of a body that is far too large.
const OVERSIZED: usize = 4 << 20;

/// The organization, with its stores and endpoints at a host.
#[derive(Clone, Debug)]
pub struct Attacker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base_url: String,
    client: Client,
    half_body: String,
    /// At an honest marketplace.
    honest: Shop,
    /// At a marketplace whose adapter faults.
    faulting: Shop,
    /// At marketplaces whose adapters take as long as they may.
    slow: Vec<Shop>,
    /// An endpoint of each animal, and last one that points at its own test route.
    webhooks: Vec<String>,
    endpoints: usize,
    /// How often each request was answered how; 0 is a connection that broke.
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    _zoo: (Vec<Animal>, RawServer),
}

/// A running attack.
#[derive(Debug)]
pub struct Attack(JoinSet<()>);

/// What one of its clients does again and again.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Flood,
    Poison,
    Hoard,
    Slow,
    Sync,
    Oversized,
    Test,
    Resend,
    Recover,
    Redrive,
}

/// The kinds with their name, number of clients, and the shortest time between two requests of a client.
const KINDS: [(Kind, &str, usize, Duration); 10] = [
    (Kind::Flood, "import", 4, Duration::from_millis(20)),
    (
        Kind::Poison,
        "poisoned import",
        2,
        Duration::from_millis(50),
    ),
    (Kind::Hoard, "hoard", 8, Duration::from_millis(100)),
    (Kind::Slow, "slow import", 32, Duration::from_millis(100)),
    (Kind::Sync, "sync", 1, Duration::from_millis(500)),
    (
        Kind::Oversized,
        "oversized body",
        1,
        Duration::from_millis(250),
    ),
    (Kind::Test, "test", 1, Duration::from_millis(50)),
    (Kind::Resend, "resend", 1, Duration::from_millis(50)),
    (Kind::Recover, "recover", 1, Duration::from_millis(50)),
    (Kind::Redrive, "redrive", 1, Duration::from_millis(50)),
];

impl Attacker {
    /// Its id is what the shaper `hostile` does with its events.
    pub const ORGANIZATION: &str = "trap";
    /// All that an organization may have.
    pub const SCOPES: &str = "stores:write orders:write webhooks:read webhooks:write webhooks:secrets deliveries:read deliveries:write";

    /// Installs the plugins that the organization needs. Call it before the host starts.
    ///
    /// # Errors
    /// If they are not built.
    pub fn install_plugins(site: &Site) -> Result<()> {
        site.install_plugin("hostile", &guest("hostile-adapter"))?;
        site.install_plugin("hostile-shaper", &guest("hostile-shaper"))?;
        for name in SLOW {
            let stamp = format!("describe name:{name}");
            let slow = faults::stamped(fs::read(guest("hostile-adapter"))?, &stamp);
            install(site, name, &slow)?;
        }
        Ok(())
    }

    /// Puts a plugin into the folder that compiles for minutes.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn drop_bomb(site: &Site) -> Result<()> {
        install(site, "bomb", &compile_bomb())
    }

    /// Registers stores, and endpoints as far as the host lets it. `key` is the organization's, with every scope.
    ///
    /// # Errors
    /// If the host refuses anything before the limit of endpoints.
    pub async fn open(host: &Host, key: &str) -> Result<Self> {
        let trap = RawServer::start("127.0.0.1", |_| async { Ok(()) }).await?;
        let certificates = Certificates::write(host.site().dir())?;
        let animals = zoo::all(&trap, &certificates, 60).await?;
        let shop = |marketplace| Shop::open(host, Self::ORGANIZATION, marketplace);
        let mut inner = Inner {
            base_url: host.base_url().to_owned(),
            client: client_with(key),
            half_body: half_body(key),
            honest: shop("etsy").await?,
            faulting: shop("hostile").await?,
            slow: future::try_join_all(SLOW.map(shop)).await?,
            webhooks: Vec::new(),
            endpoints: 0,
            answers: Mutex::default(),
            _zoo: (animals, trap),
        };
        inner.register_endpoints().await?;
        Ok(Self(Arc::new(inner)))
    }

    /// The number of endpoints that the host let it have.
    pub fn endpoints(&self) -> usize {
        self.0.endpoints
    }

    /// True if the attack has this misdeed: `WHARF_MISDEEDS` is a list of those that it has, such as `sync,slow import`, to
    /// find out what each costs the others. Without it, it has all.
    pub fn has(misdeed: &str) -> bool {
        let chosen = std::env::var("WHARF_MISDEEDS");
        chosen.is_err() || chosen.is_ok_and(|list| list.split(',').any(|one| one == misdeed))
    }

    /// Begins to do everything at once.
    pub fn attack(&self) -> Attack {
        let mut running = JoinSet::new();
        for (kind, name, clients, pace) in KINDS.into_iter().filter(|kind| Self::has(kind.1)) {
            for at in 0..clients {
                running.spawn(self.clone().repeat(kind, name, at, pace));
            }
        }
        let halves = [
            ("half head", HALF_HEAD.to_owned()),
            ("half body", self.0.half_body.clone()),
        ];
        for (name, words) in halves.into_iter().filter(|half| Self::has(half.0)) {
            for _ in 0..HALF_REQUESTS {
                running.spawn(self.clone().hold_half_requests(name, words.clone()));
            }
        }
        Attack(running)
    }

    /// How often each request was answered how, as text.
    ///
    /// # Errors
    /// If a kind of request never came to an answer, or one was answered 500: that is a fault of the host.
    pub fn account(&self) -> Result<String> {
        let answers = lock(&self.0.answers);
        for (_, name, ..) in KINDS.into_iter().filter(|kind| Self::has(kind.1)) {
            ensure!(
                answers
                    .keys()
                    .any(|(its, status)| its == &name && *status != 0),
                "{name}: no answer of {answers:?}"
            );
        }
        let told: Vec<String> = answers
            .iter()
            .map(|((name, status), times)| format!("{name} {status}: {times}"))
            .collect();
        ensure!(
            answers.keys().all(|(_, status)| *status != 500),
            "{}",
            told.join(", ")
        );
        Ok(told.join(", "))
    }

    async fn repeat(self, kind: Kind, name: &'static str, client: usize, pace: Duration) {
        let mut pace = interval(pace);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let most = if matches!(kind, Kind::Sync) {
            MAX_SYNCS
        } else {
            usize::MAX
        };
        for number in 0..most {
            pace.tick().await;
            if let Some(request) = self.0.request(kind, client, number).await {
                self.0.count(name, request).await;
            }
        }
    }

    /// Sends half a request and waits until the host has enough of it, again and again.
    async fn hold_half_requests(self, name: &'static str, words: String) {
        let mut pace = interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            let address = self.0.base_url.trim_start_matches("http://");
            let Ok(mut connection) = TcpStream::connect(address).await else {
                continue;
            };
            if connection.write_all(words.as_bytes()).await.is_ok() {
                let mut said = Vec::new();
                let _ = connection.read_to_end(&mut said).await;
                *lock(&self.0.answers).entry((name, 0)).or_default() += 1;
            }
        }
    }
}

const HALF_HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-a";

fn half_body(key: &str) -> String {
    format!(
        "POST /stores/register HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
        content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    )
}

impl Attack {
    /// Ends it.
    ///
    /// # Errors
    /// If one of its clients had failed.
    pub async fn end(mut self) -> Result<()> {
        self.0.abort_all();
        while let Some(ended) = self.0.join_next().await {
            match ended {
                Err(error) if error.is_panic() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Inner {
    async fn register_endpoints(&mut self) -> Result<()> {
        let first = self
            .register(EVENTS[1], "http://127.0.0.1:9/", "standard")
            .await?;
        let id = first.get("id").as_str().context("an id")?.to_owned();
        let own_test_route = format!("{}/webhooks/{id}/test", self.base_url);
        let mut urls: Vec<String> = self
            ._zoo
            .0
            .iter()
            .map(|animal| animal.url.clone())
            .collect();
        urls.push(own_test_route);
        let this = &*self;
        let ids: Vec<Option<String>> = stream::iter(1..MAX_ENDPOINTS)
            .map(|number| this.register_nth(number, &urls))
            // As many at a time as a client has connections.
            .buffered(8)
            .try_collect()
            .await?;
        self.endpoints = 1 + ids.iter().flatten().count();
        self.webhooks = ids.into_iter().flatten().take(urls.len()).collect();
        Ok(())
    }

    /// Registers one more endpoint: its id, or none where the host says that there are enough.
    async fn register_nth(&self, number: usize, urls: &[String]) -> Result<Option<String>> {
        let shaper = if number.is_multiple_of(100) {
            "hostile"
        } else {
            "standard"
        };
        let url = format!("{}?{number}", urls[number % urls.len()]);
        let event = EVENTS[number / urls.len() % EVENTS.len()];
        let answer = self.register(event, &url, shaper).await?;
        if answer.status == 200 {
            return Ok(answer.get("id").as_str().map(str::to_owned));
        }
        ensure!(
            answer.status == 409 && number > urls.len(),
            "endpoint {number}: {} {}",
            answer.status,
            answer.text
        );
        Ok(None)
    }

    async fn register(&self, event: &str, url: &str, shaper: &str) -> Result<Answer> {
        let body = json!({"organizationId": Attacker::ORGANIZATION, "event": event, "targetUrl": url, "shaper": shaper});
        Answer::to(self.post("/webhooks/register", &body)).await
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client
            .post(format!("{}{path}", self.base_url))
            .json(body)
    }

    async fn request(&self, kind: Kind, client: usize, number: usize) -> Option<RequestBuilder> {
        let owner = json!({"organizationId": Attacker::ORGANIZATION});
        let since =
            json!({"organizationId": Attacker::ORGANIZATION, "since": "2026-01-01T00:00:00Z"});
        let webhook = &self.webhooks[number % self.webhooks.len()];
        Some(match kind {
            Kind::Flood => self.import(&self.honest, &format!("f-{client}-{number}")),
            Kind::Poison => self.import(&self.faulting, &poison(client, number)),
            Kind::Hoard => self.import(&self.faulting, &format!("hoard:{client}-{number}")),
            Kind::Slow => {
                let shop = &self.slow[client % self.slow.len()];
                self.import(shop, &format!("sleep:{client}-{number}"))
            }
            Kind::Sync => {
                let shops = [&self.honest, &self.faulting, &self.slow[0], &self.slow[1]];
                let token = &shops[number % shops.len()].sync_token;
                self.post("/stores/sync", &json!({"syncToken": token}))
            }
            Kind::Oversized => self.import(&self.honest, &"x".repeat(OVERSIZED)),
            Kind::Test => self.post(&format!("/webhooks/{webhook}/test"), &owner),
            Kind::Resend => self.post(
                &format!("/deliveries/{}/resend", self.delivery(webhook).await?),
                &owner,
            ),
            Kind::Recover => self.post(&format!("/webhooks/{webhook}/recover"), &since),
            Kind::Redrive => self.post("/dead-letters/redrive", &since),
        })
    }

    fn import(&self, shop: &Shop, receipt: &str) -> RequestBuilder {
        let body = json!({"syncToken": shop.sync_token, "receipt": receipt});
        self.post("/orders/import", &body)
    }

    /// A delivery to an endpoint, if it had one.
    async fn delivery(&self, webhook: &str) -> Option<String> {
        let path = format!("/webhooks/{webhook}/deliveries?limit=1");
        let answer = Answer::to(self.client.get(format!("{}{path}", self.base_url))).await;
        let page = answer.ok()?.json();
        page["items"][0]["id"].as_str().map(str::to_owned)
    }

    async fn count(&self, name: &'static str, request: RequestBuilder) {
        let status = Answer::to(request).await.map_or(0, |answer| answer.status);
        *lock(&self.answers).entry((name, status)).or_default() += 1;
    }
}
