//! What operators do with plugins, and the audit of everything that happens to them.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wharf_domain::{Time, uuid_v7};
use wharf_engine::{Digest, OperationError, PluginReport, Transition};
use wharf_store::transitions::{self, PluginTransition};

use crate::{App, AppError, entropy::random};

/// Steps of the audit that go into one transaction.
const BATCH: usize = 256;
/// How long the audit waits after the database refused it.
const PAUSE: Duration = Duration::from_secs(1);
/// Steps of a plugin's audit that are shown.
const SHOWN: i64 = 100;

/// What an operator wants of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginChange {
    /// That this retained revision serves.
    Activate(Digest),
    /// That the revision serves that did before.
    RollBack,
    /// That its calls are deferred.
    Disable {
        /// Why, for people.
        reason: String,
    },
    /// That it serves again.
    Enable,
    /// That this revision does not serve any more.
    Quarantine {
        /// Which one.
        digest: Digest,
        /// Why, for people.
        reason: String,
    },
    /// That this quarantined revision may serve again.
    Release(Digest),
}

/// The grants of an uploaded component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadedGrants {
    /// Those of the revision that serves now, if there is one.
    AsBefore,
    /// The text of a grants file; an empty one grants nothing.
    Text(String),
}

/// A plugin and its story.
#[derive(Clone, Debug)]
pub struct PluginDetails {
    /// What it is and how it does in this process.
    pub report: PluginReport,
    /// What happened to it, in every process, the newest first.
    pub transitions: Vec<PluginTransition>,
}

impl App {
    /// Every plugin that was found, sorted by name.
    pub fn plugins(&self) -> Vec<PluginReport> {
        self.0.engine.plugins()
    }

    /// Why the plugins folder cannot be read, if it cannot.
    pub fn plugins_problem(&self) -> Option<String> {
        self.0.engine.folder_problem()
    }

    /// One plugin with its audit; `None` if there is no such plugin.
    pub async fn plugin(&self, name: &str) -> Result<Option<PluginDetails>, AppError> {
        let Some(report) = self.plugin_report(name) else {
            return Ok(None);
        };
        let transitions =
            transitions::newest(&mut self.0.ledger.read().await?, name, SHOWN).await?;
        Ok(Some(PluginDetails {
            report,
            transitions,
        }))
    }

    /// What a plugin is and how it does in this process; `None` if there is no such plugin.
    pub fn plugin_report(&self, name: &str) -> Option<PluginReport> {
        self.plugins()
            .into_iter()
            .find(|report| report.plugin == name)
    }

    /// Takes an uploaded component through every stage and lets it serve.
    ///
    /// # Errors
    /// Why it may not serve; what served before goes on.
    pub async fn upload_plugin(
        &self,
        name: &str,
        component: Arc<[u8]>,
        grants: UploadedGrants,
        actor: &str,
    ) -> Result<Digest, OperationError> {
        let grants = match grants {
            UploadedGrants::AsBefore => self.plugin_report(name).and_then(|report| report.grants),
            UploadedGrants::Text(text) => (!text.trim().is_empty()).then_some(text),
        };
        self.0
            .engine
            .upload(name, component, grants.as_deref(), actor)
            .await
    }

    /// Does what an operator wants of a plugin.
    ///
    /// # Errors
    /// Why it was not done; nothing has changed then.
    pub async fn change_plugin(
        &self,
        name: &str,
        change: PluginChange,
        actor: &str,
    ) -> Result<(), OperationError> {
        let engine = &self.0.engine;
        match change {
            PluginChange::Activate(digest) => engine.activate(name, digest, actor).await,
            PluginChange::RollBack => engine.rollback(name, actor).await.map(drop),
            PluginChange::Disable { reason } => engine.disable(name, &reason, actor).await,
            PluginChange::Enable => engine.enable(name, actor).await,
            PluginChange::Quarantine { digest, reason } => {
                engine.quarantine(name, digest, &reason, actor).await
            }
            PluginChange::Release(digest) => engine.release(name, digest, actor).await,
        }
    }

    /// Writes the steps of plugins' revisions into the audit until it is told to stop, and then those that are left.
    /// The schema must be up to date. There is one audit in a process: a second one has nothing to do.
    pub async fn run_plugin_audit(&self, stop: CancellationToken) {
        let Some(mut transitions) = self.0.engine.transitions() else {
            return stop.cancelled().await;
        };
        let mut ids = Ids::default();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let received = tokio::select! {
                received = transitions.recv_many(&mut batch, BATCH) => received,
                () = stop.cancelled() => {
                    transitions.close();
                    transitions.recv_many(&mut batch, BATCH).await
                }
            };
            if received == 0 {
                return;
            }
            let rows: Vec<_> = batch
                .drain(..)
                .map(|transition| row(ids.next(transition.at), transition))
                .collect();
            self.record_transitions(&rows, &stop).await;
        }
    }

    /// Tries until it is done, or once if there is no time left.
    async fn record_transitions(&self, rows: &[PluginTransition], stop: &CancellationToken) {
        let record = async || transitions::record(&mut self.0.ledger.write().await?, rows).await;
        while let Err(error) = record().await {
            tracing::warn!(%error, steps = rows.len(), "the audit of plugins could not be written");
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
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
