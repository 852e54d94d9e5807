//! The audit of plugins: every step that a revision takes becomes a row.
//!
//! The row follows the file. A kill between the two loses the row, never the state.

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wharf_domain::{Time, uuid_v7};
use wharf_engine::Transition;
use wharf_store::transitions::{self, PluginTransition};

use crate::{App, entropy::random};

/// Steps that go into one transaction.
const MAX_BATCH: usize = 256;

/// Writes the steps of plugins' revisions into the audit. The schema must be up to date.
pub struct PluginAudit {
    app: App,
    transitions: Option<UnboundedReceiver<Transition>>,
    ids: Ids,
}

impl PluginAudit {
    /// The audit of this process. There is one: a second one has nothing to do.
    pub fn new(app: &App) -> Self {
        Self {
            app: app.clone(),
            transitions: app.0.engine.transitions(),
            ids: Ids::default(),
        }
    }

    /// Writes until `stop` is cancelled, and then the steps that are left.
    pub async fn run(mut self, stop: CancellationToken) {
        let Some(mut transitions) = self.transitions.take() else {
            return stop.cancelled().await;
        };
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
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

    /// Tries until it is done, or once if there is no time left.
    async fn record(&self, rows: &[PluginTransition], stop: &CancellationToken) {
        let ledger = &self.app.0.ledger;
        // May run twice on the same rows. Their ids were made before, and a row that is there is left alone.
        let record = async || transitions::record(&mut ledger.write().await?, rows).await;
        while let Err(error) = record().await {
            tracing::warn!(%error, steps = rows.len(), "the audit of plugins could not be written");
            if stop.is_cancelled() {
                return;
            }
            self.app.pause(stop).await;
        }
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
