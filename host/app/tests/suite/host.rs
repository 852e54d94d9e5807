//! A host in this process: its parts are real, its clock stands still until a test moves it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;
use wharf_app::{
    App, AppSettings, CallbackScheduler, CallbackWorker, Endpoint, Parts, StoreRegistration,
    SyncScheduler, SyncStep, SyncWorker, WebhookRegistration,
};
use wharf_domain::{
    AccessToken, AddressPolicy, Clock, Currency, EventKind, ExternalStoreId, FixedClock,
    ImportResult, MarketplaceName, OrganizationId, Reach, Receipt, RequestId, StoreName, SyncToken,
    TargetUrl, Time,
};
use wharf_engine::{Engine, EngineSettings};
use wharf_queue::Doorbell;
use wharf_store::{EncryptionKey, Ledger as Database, LedgerSettings};
use wharf_tests::{Backend, Ledger, Site};

/// Rounds of a drain. The longest of these tests needs about ten; work without end must fail a test, not hang it.
const MAX_ROUNDS: usize = 100;

/// The operations and the four actors over one database.
pub(crate) struct InProcess {
    pub(crate) app: App,
    pub(crate) clock: Arc<FixedClock>,
    /// Whoever asks next for the time panics.
    pub(crate) panic_next: Arc<AtomicBool>,
    pub(crate) sync_scheduler: SyncScheduler,
    pub(crate) ledger: Ledger,
    pub(crate) sync_worker: SyncWorker,
    pub(crate) callback_scheduler: CallbackScheduler,
    pub(crate) callback_worker: CallbackWorker,
    _site: Arc<Site>,
}

/// A clock that can be made to panic once.
struct FragileClock(Arc<FixedClock>, Arc<AtomicBool>);

impl Clock for FragileClock {
    fn now(&self) -> Time {
        assert!(!self.1.swap(false, Ordering::SeqCst), "the clock broke");
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) fn organization() -> OrganizationId {
    OrganizationId::from_stored("org-1".into())
}

pub(crate) fn request_id() -> RequestId {
    RequestId::from_stored("request-1".into())
}

impl InProcess {
    pub(crate) async fn open(backend: Backend) -> Result<Self> {
        Self::open_with(backend, |_| {}).await
    }

    /// A host at a site of its own, with these settings changed.
    pub(crate) async fn open_with(
        backend: Backend,
        change: impl FnOnce(&mut AppSettings),
    ) -> Result<Self> {
        Self::open_beside(backend, &[], change).await
    }

    /// The same, with further plugins.
    pub(crate) async fn open_beside(
        backend: Backend,
        plugins: &[(&str, &Path)],
        change: impl FnOnce(&mut AppSettings),
    ) -> Result<Self> {
        let site = Site::open(backend).await?;
        for (name, component) in plugins {
            site.install_plugin(name, component)?;
        }
        let database = Database::open(&LedgerSettings::new(url(&site))).await?;
        database.migrate().await?;
        let ledger = Ledger::open(&site).await?;
        let clock = Arc::new(FixedClock::at(
            Time::parse("2026-01-01T00:00:00Z").expect("a time"),
        ));
        let panic_next = Arc::new(AtomicBool::new(false));
        let mut settings = AppSettings::new(EncryptionKey::new([7; 32]).into());
        settings.callbacks.addresses = AddressPolicy::with_loopback();
        change(&mut settings);
        let engine = EngineSettings::new(site.plugins_dir(), site.data_dir().join("engine"));
        let app = App::new(Parts {
            ledger: database,
            doorbell: Doorbell::in_process(),
            engine: started(engine).await?,
            clock: Arc::new(FragileClock(clock.clone(), panic_next.clone())),
            settings,
        })?;
        Ok(Self {
            sync_scheduler: SyncScheduler::new(&app),
            sync_worker: SyncWorker::new(&app),
            callback_scheduler: CallbackScheduler::new(&app),
            callback_worker: CallbackWorker::new(&app),
            app,
            clock,
            panic_next,
            ledger,
            _site: site,
        })
    }

    /// Runs the actors until none finds anything to do at the present time.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        let mut idle_rounds = 0;
        for _ in 0..MAX_ROUNDS {
            idle_rounds = if self.round().await? {
                idle_rounds + 1
            } else {
                0
            };
            // The first may have begun in the middle of the endpoints; the second went through them all.
            if idle_rounds == 2 {
                return Ok(());
            }
        }
        bail!("there is still something to do after {MAX_ROUNDS} rounds")
    }

    /// Moves the clock forward, then drains.
    pub(crate) async fn after(&mut self, wait: Duration) -> Result<()> {
        self.clock.advance(wait);
        self.drain().await
    }

    /// Runs the sync jobs that are due, and leaves their events in the outbox.
    pub(crate) async fn synchronise(&mut self) -> Result<()> {
        self.sync_scheduler.pass(&CancellationToken::new()).await?;
        self.sync_worker.step().await?;
        self.sync_worker.finish().await;
        Ok(())
    }

    /// One step of every actor, to its end. Returns whether all were idle.
    async fn round(&mut self) -> Result<bool> {
        // Some time passes in between: a run's results are dated a microsecond after its beginning.
        self.clock.advance(Duration::from_micros(1));
        let scheduled = self.sync_scheduler.pass(&CancellationToken::new()).await?;
        let sync = self.sync_worker.step().await?;
        self.sync_worker.finish().await;
        // What is due may wait for a paused endpoint, so it does not count as something to do.
        let swept = self.callback_scheduler.step().await?;
        let callback = self.callback_worker.step().await?;
        self.callback_worker.finish().await;
        Ok(scheduled.enqueued == 0
            && sync == SyncStep::Idle
            && swept.purged == 0
            && callback.is_idle())
    }

    /// Registers a store at Etsy.
    pub(crate) async fn store(&self, organization: &OrganizationId) -> Result<SyncToken> {
        self.store_at("etsy", organization).await
    }

    pub(crate) async fn store_at(
        &self,
        marketplace: &str,
        organization: &OrganizationId,
    ) -> Result<SyncToken> {
        let registration = StoreRegistration {
            organization_id: organization.clone(),
            marketplace: MarketplaceName::parse(marketplace)?,
            external_store_id: ExternalStoreId::parse("ext-100")?,
            store_name: StoreName::parse("My Store")?,
            access_token: AccessToken::parse("token-abc")?,
            currency: Currency::parse("USD")?,
        };
        Ok(self.app.register_store(registration).await?.sync_token)
    }

    pub(crate) async fn import(&self, store: SyncToken, receipt: &str) -> Result<ImportResult> {
        let receipt = Receipt::parse(receipt)?;
        Ok(self
            .app
            .import(&Reach::Everything, store, receipt, request_id())
            .await?)
    }

    /// Registers an endpoint of [`organization`].
    pub(crate) async fn endpoint(&self, event: EventKind, url: &str) -> Result<Endpoint> {
        self.endpoint_of(&organization(), event, url).await
    }

    pub(crate) async fn endpoint_of(
        &self,
        organization: &OrganizationId,
        event: EventKind,
        url: &str,
    ) -> Result<Endpoint> {
        let registration = WebhookRegistration {
            organization_id: organization.clone(),
            event,
            target_url: TargetUrl::parse(url)?,
            shaper: None,
            asymmetric: false,
        };
        Ok(self.app.register_webhook(registration).await?.endpoint)
    }
}

fn url(site: &Site) -> String {
    match site.backend() {
        Backend::Embedded => format!("sqlite:{}", site.data_dir().join("wharf.db").display()),
        Backend::Postgres => site.database().url().to_owned(),
    }
}

/// An engine with everything of its folder loaded.
async fn started(settings: EngineSettings) -> Result<Engine> {
    let engine = Engine::start(settings)?;
    engine.loaded().await;
    Ok(engine)
}
