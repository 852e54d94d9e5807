//! Who calls: API keys and portal tokens, verified against the database and remembered for some seconds.
//!
//! `cache` bounds what is remembered and how many ask the database at a time; `used` writes down, in batches, when keys
//! were used; `keys` makes and revokes them; `portal` makes and reads tokens.

mod cache;
mod caller;
mod keys;
mod portal;
mod used;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use wharf_domain::{ApiKeyId, KeyKind, KeyText, Time};
use wharf_store::api_keys::{self, Held, RenewedMac};

use self::cache::{Cache, Verified};
pub(crate) use self::used::{Used, write_down};
pub use self::{
    caller::Caller,
    keys::{
        ApiKeyPage, ApiKeyRequest, MAX_KEYS_PER_PAGE, MAX_LIVE_KEYS, NewKey, create_api_key,
        list_api_keys, revoke_api_key,
    },
    portal::{MAX_PORTAL_LIFE, PortalRights, PortalToken},
};
use crate::{App, AppError};

/// The longest wait for the database to tell of a key; then 503.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a key does not let in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyRefusal {
    /// It is no key, or has a typing error.
    #[error("it is no key of this service, or not all of it")]
    Malformed,
    /// There is no such key.
    #[error("no such key")]
    Unknown,
    /// It was right once, and was revoked.
    #[error("the key was revoked")]
    Revoked,
    /// It was right once, and has ended.
    #[error("the key has expired")]
    Expired,
    /// It could not be looked up.
    #[error(transparent)]
    Failed(#[from] AppError),
}

/// What this process knows of keys.
#[derive(Default)]
pub(crate) struct Access {
    cache: Cache,
    pub(crate) used: Used,
}

#[derive(Debug, thiserror::Error)]
#[error("keys cannot be looked up at the moment")]
struct TooSlow;

fn too_slow() -> KeyRefusal {
    KeyRefusal::Failed(AppError::Unavailable(Arc::new(TooSlow)))
}

impl App {
    /// Tells whose key this is. The database is asked at most once for a key in ten seconds, however many requests carry it.
    ///
    /// # Errors
    /// If it lets nobody in, or cannot be looked up.
    pub async fn authenticate(&self, text: &str) -> Result<Caller, KeyRefusal> {
        let key = KeyText::parse(text).ok_or(KeyRefusal::Malformed)?;
        let (name, cache) = (key.digest(), &self.0.access.cache);
        if let Some(known) = cache.fresh(&name, Instant::now()) {
            return self.admit(known);
        }
        // Waiting in one lane, many requests with one key make one query; and strangers' keys have lanes of their own.
        let lane = tokio::time::timeout(PATIENCE, cache.lane(&name, Instant::now()).lock());
        let _lane = lane.await.map_err(|_| too_slow())?;
        if let Some(known) = cache.fresh(&name, Instant::now()) {
            return self.admit(known);
        }
        // Before the question: what is revoked while it is on its way must not count as fresh for longer.
        let asked = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, self.verify(&key)).await;
        let verdict = match answer.map_err(|_| too_slow())? {
            Err(failed @ KeyRefusal::Failed(_)) => return Err(failed),
            verdict => verdict.map(Arc::new),
        };
        cache.keep(name, verdict.clone(), asked);
        self.admit(verdict)
    }

    /// A key that was right some seconds ago may have ended since.
    fn admit(&self, verdict: Result<Arc<Verified>, KeyRefusal>) -> Result<Caller, KeyRefusal> {
        let (verified, now) = (verdict?, self.0.clock.now());
        if verified.ends_at.is_some_and(|end| end <= now) {
            return Err(KeyRefusal::Expired);
        }
        if let Some(key) = verified.key {
            self.0.access.used.note(key, &verified, now);
        }
        Ok(verified.caller.clone())
    }

    async fn verify(&self, key: &KeyText) -> Result<Verified, KeyRefusal> {
        match key.kind {
            KeyKind::Portal => self.verify_token(key).await,
            KeyKind::Organization | KeyKind::Operator => self.verify_key(key).await,
        }
    }

    async fn verify_key(&self, key: &KeyText) -> Result<Verified, KeyRefusal> {
        let id = uuid::Uuid::from_slice(&key.body).map_err(|_| KeyRefusal::Unknown)?;
        let mut conn = self.0.ledger.read().await.map_err(AppError::from)?;
        let stored = api_keys::get(&mut conn, ApiKeyId(id)).await;
        // Given back before anything is computed.
        drop(conn);
        let stored = stored.map_err(AppError::from)?.ok_or(KeyRefusal::Unknown)?;
        if keys::kind_of(stored.organization_id.as_ref()) != key.kind {
            return Err(KeyRefusal::Unknown);
        }
        let renewed = match stored.hold(&self.0.settings.encryption_key, &key.secret) {
            Held::Right { renewed } => renewed,
            Held::Wrong => return Err(KeyRefusal::Unknown),
            Held::Unknown => {
                tracing::warn!(key = %stored.id, "an API key was made with a host's key that is not given");
                return Err(KeyRefusal::Unknown);
            }
        };
        // Only whoever has the secret is told this much of a key.
        self.check_life(stored.revoked_at, stored.expires_at)?;
        Ok(Verified {
            caller: Caller::key(&stored),
            key: Some(stored.id),
            ends_at: stored.expires_at,
            renewed: renewed.into(),
            minute: 0.into(),
        })
    }

    fn check_life(&self, revoked: Option<Time>, ends: Option<Time>) -> Result<(), KeyRefusal> {
        if revoked.is_some() {
            return Err(KeyRefusal::Revoked);
        }
        match ends {
            Some(end) if end <= self.0.clock.now() => Err(KeyRefusal::Expired),
            _ => Ok(()),
        }
    }
}

/// What takes the place of a key's HMAC at the next writing, once.
type Renewal = std::sync::Mutex<Option<RenewedMac>>;
