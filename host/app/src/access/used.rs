//! When keys were used, to the minute: gathered, and written in batches. No request waits for it, and what a crash loses is
//! some seconds of a time that is for people.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use wharf_domain::{ApiKeyId, Time};
use wharf_store::{
    StoreError,
    api_keys::{self, RenewedMac},
    canary,
};

use super::cache::Verified;
use crate::{App, Inner, entropy::random};

const MINUTE_MICROS: i64 = 60_000_000;
/// Time between two writings.
const EVERY: Duration = Duration::from_secs(10);
/// Keys of one transaction.
const MAX_BATCH: usize = 200;
/// Keys that may wait to be written; the use of others is not noted until then.
const MAX_WAITING: usize = 10_000;

/// Uses that are not written yet.
#[derive(Default)]
pub(crate) struct Used(Mutex<HashMap<ApiKeyId, Use>>);

struct Use {
    at: Time,
    renewed: Option<RenewedMac>,
}

impl Used {
    /// Notes the first use in a minute. At any other the request costs no lock.
    pub(super) fn note(&self, key: ApiKeyId, verified: &Verified, now: Time) {
        let minute = now.as_micros().div_euclid(MINUTE_MICROS);
        if verified.minute.swap(minute, Relaxed) == minute {
            return;
        }
        let renewed = verified.renewed.lock();
        let renewed = renewed.unwrap_or_else(PoisonError::into_inner).take();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING && !waiting.contains_key(&key) {
            return;
        }
        let at = Time::from_micros(minute * MINUTE_MICROS);
        let one = waiting.entry(key).or_insert(Use { at, renewed: None });
        one.at = one.at.max(at);
        one.renewed = renewed.or(one.renewed.take());
    }

    fn take(&self) -> Vec<(ApiKeyId, Time, Option<RenewedMac>)> {
        let waiting = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let uses = waiting.into_iter();
        uses.map(|(id, one)| (id, one.at, one.renewed)).collect()
    }
}

/// Writes down what is used for as long as the host lives.
pub(crate) fn write_down(host: &Arc<Inner>) {
    // Weak: this task must not keep a host alive that everybody else has dropped.
    let host = Arc::downgrade(host);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(host) = host.upgrade() else { return };
            App(host).write_uses().await;
        }
    });
}

impl App {
    /// Writes down when keys were used, and moves to the first key of the ring what was made with another one.
    pub async fn write_uses(&self) {
        for batch in self.0.access.used.take().chunks(MAX_BATCH) {
            if let Err(error) = self.write(batch).await {
                // Not kept: the next minute's use says more, and a renewed HMAC comes again.
                tracing::warn!(%error, "the use of keys was not written down");
            }
        }
    }

    async fn write(
        &self,
        batch: &[(ApiKeyId, Time, Option<RenewedMac>)],
    ) -> Result<(), StoreError> {
        let mut tx = self.0.ledger.begin().await?;
        if batch.iter().any(|(_, _, renewed)| renewed.is_some()) {
            let keys = &self.0.settings.encryption_key;
            canary::hold(&mut tx, keys, random(), self.0.clock.now()).await?;
        }
        api_keys::note_use(&mut tx, batch).await?;
        tx.commit().await
    }
}
