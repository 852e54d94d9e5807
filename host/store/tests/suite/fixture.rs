//! A migrated, empty ledger for one test, and the things that tests put into it.

use std::{ops::Deref, time::Duration};

use anyhow::Result;
use tempfile::TempDir;
use wharf_domain::{
    AccessToken, Amount, Answer, Before, Currency, EndpointId, EndpointSecret, EventKind,
    ExternalStoreId, LogId, MarketplaceName, Order, OrganizationId, Receipt, ShaperName, StoreId,
    StoreName, SyncToken, TargetUrl, Time, next_state, uuid_v4, uuid_v7,
};
use wharf_store::{
    Conn, EncryptionKey, KeyRing, Ledger, LedgerSettings, StoreError, endpoints,
    jobs::{self, Claimed},
    logs::NewLog,
    stores,
};
use wharf_tests::{Backend, Database};

/// When tests happen, unless they say otherwise.
pub(crate) const NOW: Time = Time::from_micros(1_790_000_000_000_000);
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The ledger under test; it derefs to the crate's own.
pub(crate) struct Fixture {
    ledger: Ledger,
    /// The same database past the ledger.
    pub(crate) sql: wharf_tests::Ledger,
    url: String,
    _place: Place,
}

enum Place {
    Folder { _folder: TempDir },
    Server { _database: Database },
}

impl Deref for Fixture {
    type Target = Ledger;
    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl Fixture {
    pub(crate) async fn open(backend: Backend) -> Result<Self> {
        let (url, place) = match backend {
            Backend::Embedded => {
                let folder = TempDir::new()?;
                let url = format!("sqlite:{}", folder.path().join("wharf.db").display());
                (url, Place::Folder { _folder: folder })
            }
            Backend::Postgres => {
                let database = Database::create().await?;
                (
                    database.url().to_owned(),
                    Place::Server {
                        _database: database,
                    },
                )
            }
        };
        let ledger = Ledger::open(&LedgerSettings::new(&url)).await?;
        ledger.migrate().await?;
        Ok(Self {
            ledger,
            sql: wharf_tests::Ledger::connect(&url).await?,
            url,
            _place: place,
        })
    }

    /// `sqlite:PATH` or `postgres://...`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The number that a query answers.
    pub(crate) async fn number(&self, select: &str) -> Result<i64> {
        self.sql.number(select).await
    }

    pub(crate) async fn conn(&self) -> Result<Conn> {
        Ok(self.ledger.write().await?)
    }

    /// Registers a store and returns its ids.
    pub(crate) async fn register(
        &self,
        organization: &str,
        external: &str,
    ) -> Result<(StoreId, SyncToken)> {
        let mut conn = self.conn().await?;
        register_as(&mut conn, organization, external, "token").await
    }

    /// Stores judged receipts in one transaction.
    pub(crate) async fn record(&self, logs: &[NewLog]) -> Result<Vec<wharf_domain::ImportResult>> {
        let mut tx = self.ledger.begin().await?;
        let results = wharf_store::logs::record(&mut tx, logs, NOW).await?;
        tx.commit().await?;
        Ok(results)
    }

    pub(crate) async fn endpoint(
        &self,
        organization: &str,
        event: EventKind,
        url: &str,
    ) -> Result<EndpointId> {
        let new = endpoints::NewEndpoint {
            id: EndpointId(random_v7()),
            organization_id: &organization_id(organization),
            event,
            target_url: &TargetUrl::parse(url)?,
            shaper: &ShaperName::standard(),
            asymmetric: false,
            secret: &EndpointSecret::from_random([7; 32]),
            nonce: [3; 24],
        };
        Ok(
            endpoints::register(&mut self.conn().await?, &key(), &new, NOW)
                .await?
                .id,
        )
    }
}

pub(crate) async fn register_as(
    conn: &mut Conn,
    organization: &str,
    external: &str,
    token: &str,
) -> Result<(StoreId, SyncToken)> {
    let new = stores::NewStore {
        id: StoreId(random_v7()),
        sync_token: SyncToken(random_v7()),
        organization_id: &organization_id(organization),
        marketplace: &MarketplaceName::parse("etsy")?,
        external_store_id: &ExternalStoreId::parse(external)?,
        store_name: &StoreName::parse("A store")?,
        access_token: &AccessToken::parse(token)?,
        currency: Currency::parse("USD")?,
        nonce: random(),
        token_nonce: random(),
    };
    let store = stores::register(conn, &key(), &new, NOW).await?;
    Ok((store.id, store.sync_token))
}

pub(crate) fn key() -> KeyRing {
    EncryptionKey::new([42; 32]).into()
}

pub(crate) fn organization_id(name: &str) -> OrganizationId {
    OrganizationId::parse(name).expect("a name")
}

/// Bytes that differ from call to call; only for ids and nonces of tests.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    std::array::from_fn(|_| fastrand::u8(..))
}

pub(crate) fn random_v7() -> uuid::Uuid {
    uuid_v7(NOW, random())
}

pub(crate) fn random_v4() -> uuid::Uuid {
    uuid_v4(random())
}

pub(crate) fn accepted() -> Answer {
    Answer::Accepted(Order {
        id: "order-1".into(),
        amount: Amount::parse("99.90").expect("an amount"),
        currency: Currency::parse("EUR").expect("a currency"),
        imported_at: NOW,
    })
}

/// An order of its own for each receipt: two of one order count once.
fn own_order(receipt: &str, answer: Answer) -> Answer {
    match answer {
        Answer::Accepted(order) => Answer::Accepted(Order {
            id: format!("order-of-{receipt}"),
            ..order
        }),
        other => other,
    }
}

pub(crate) fn judged(store_id: StoreId, receipt: &str, answer: Answer, at: Time) -> NewLog {
    NewLog {
        id: LogId(random_v7()),
        store_id,
        receipt: Receipt::parse(receipt).expect("a receipt"),
        state: next_state(Before::NEW, own_order(receipt, answer), at),
        plugin_digest: Some("d1".into()),
        request_id: None,
        at,
    }
}

/// Claims up to `limit` due jobs, the longest due first.
pub(crate) async fn claim(
    conn: &mut Conn,
    worker: &str,
    lease: Duration,
    limit: usize,
    now: Time,
) -> Result<Vec<Claimed>, StoreError> {
    let per_pair = i64::try_from(limit).unwrap_or(i64::MAX);
    let waiting = jobs::waiting(conn, per_pair, now).await?;
    let chosen = waiting.into_iter().take(limit).map(|(store, _)| store);
    jobs::claim(conn, worker, lease, chosen, now).await
}
