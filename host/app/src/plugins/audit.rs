//! The audit of plugins: every step that a revision takes becomes a row.
//!
//! The row follows the file. A kill between the two loses the row, never the state. What the operator is told of is an
//! event in the row's transaction.

use std::collections::BTreeSet;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wharf_domain::{Time, uuid_v7};
use wharf_engine::Transition;
use wharf_queue::Queue;
use wharf_store::{
    StoreError, marketplaces, outbox,
    transitions::{self, PluginTransition},
};

use crate::{App, entropy::random, operator::plugin_events};

/// Steps that go into one transaction.
const MAX_BATCH: usize = 256;

/// Writes the steps of plugins' revisions into the audit. The schema must be up to date.
pub struct PluginAudit {
    app: App,
    transitions: Option<UnboundedReceiver<Transition>>,
    ids: Ids,
    /// The marketplaces that are remembered as served.
    remembered: BTreeSet<String>,
}

impl PluginAudit {
    /// The audit of this process. There is one: a second one has nothing to do.
    pub fn new(app: &App) -> Self {
        Self {
            app: app.clone(),
            transitions: app.0.engine.transitions(),
            ids: Ids::default(),
            remembered: BTreeSet::new(),
        }
    }

    /// Writes until `stop` is cancelled, and then the steps that are left.
    pub async fn run(mut self, stop: CancellationToken) {
        let Some(mut transitions) = self.transitions.take() else {
            return stop.cancelled().await;
        };
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            // At the start, too: what serves from the beginning makes no step.
            self.remember_marketplaces(&stop).await;
            let received = tokio::select! {
                received = transitions.recv_many(&mut batch, MAX_BATCH) => received,
                () = stop.cancelled() => {
                    // Closed first: steps that come later belong to the next process's audit.
                    transitions.close();
                    transitions.recv_many(&mut batch, MAX_BATCH).await
                }
            };
            if received == 0 {
                return;
            }
            let rows: Vec<_> = batch
                .drain(..)
                .map(|transition| row(self.ids.next(transition.at), transition))
                .collect();
            self.record(&rows, &stop).await;
        }
    }

    /// Writes down which marketplaces are served that were not before, for the processes that have other plugins.
    async fn remember_marketplaces(&mut self, stop: &CancellationToken) {
        let served = self.app.0.engine.marketplaces();
        let new: Vec<String> = served
            .into_iter()
            .filter(|name| !self.remembered.contains(name))
            .collect();
        if new.is_empty() {
            return;
        }
        let now = self.app.0.clock.now();
        while let Err(error) = self.try_remember(&new, now).await {
            if self.gives_up(&error, stop).await {
                return;
            }
        }
        self.remembered.extend(new);
    }

    async fn try_remember(&self, names: &[String], now: Time) -> Result<(), StoreError> {
        let mut conn = self.app.0.ledger.write().await?;
        let names = names.iter().map(String::as_str);
        marketplaces::remember(&mut conn, names, now).await
    }

    async fn record(&self, rows: &[PluginTransition], stop: &CancellationToken) {
        while let Err(error) = self.try_record(rows).await {
            if self.gives_up(&error, stop).await {
                return;
            }
        }
    }

    /// May run twice on the same rows. Their ids were made before, and a row that is there is left alone.
    async fn try_record(&self, rows: &[PluginTransition]) -> Result<(), StoreError> {
        let mut tx = self.app.0.ledger.begin().await?;
        let new = transitions::record(&mut tx, rows).await?;
        // Of new rows alone: the events of the others came with them.
        let new = rows.iter().filter(|row| new.contains(&row.id));
        let mut told = false;
        for event in plugin_events(new) {
            outbox::emit(&mut tx, &event, outbox::Cause::default()).await?;
            told = true;
        }
        tx.commit().await?;
        if told {
            self.app.0.doorbell.ring(Queue::Callback, "plugin");
        }
        Ok(())
    }

    /// Waits before the next try; returns true where there is no time for one.
    async fn gives_up(&self, error: &StoreError, stop: &CancellationToken) -> bool {
        tracing::warn!(%error, "the audit of plugins could not be written");
        if !stop.is_cancelled() {
            self.app.pause(stop).await;
            return false;
        }
        true
    }
}

fn row(id: Uuid, transition: Transition) -> PluginTransition {
    let Transition {
        at,
        plugin,
        digest,
        from,
        to,
        reason,
        actor,
    } = transition;
    PluginTransition {
        id,
        at,
        plugin,
        digest: digest.map(|digest| digest.to_string()),
        from: from.map(|state| state.to_string()),
        to: to.to_string(),
        reason,
        actor,
    }
}

/// Ids that sort as the steps came, also those of one millisecond: the bits that a UUID v7 has right after its time
/// hold a counter.
#[derive(Default)]
struct Ids {
    millis: i64,
    used: u16,
}

impl Ids {
    fn next(&mut self, at: Time) -> Uuid {
        let millis = at.as_micros() / 1_000;
        self.used = if millis == self.millis {
            self.used.saturating_add(1)
        } else {
            0
        };
        self.millis = millis;
        let mut bytes: [u8; 10] = random();
        // The counter takes the place of random bits, so it sorts before them.
        bytes[..2].copy_from_slice(&self.used.to_be_bytes());
        uuid_v7(at, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_the_steps_came() {
        let mut ids = Ids::default();
        let ids: Vec<Uuid> = [5_000, 5_000, 5_001, 5_999, 6_000, 6_000]
            .map(|at| ids.next(Time::from_micros(at)))
            .into();
        assert!(
            ids.is_sorted() && ids.iter().all(|id| id.get_version_num() == 7),
            "{ids:?}"
        );
    }
}
