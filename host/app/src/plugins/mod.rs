//! Operations on plugins. `audit.rs` writes down everything that happens to them.

mod audit;

use std::sync::Arc;

use wharf_engine::{Digest, OperationError, PluginReport};
use wharf_store::transitions::{self, PluginTransition};

pub use self::audit::PluginAudit;
use crate::{App, AppError};

/// Steps of a plugin's audit that are shown, the newest.
const MAX_SHOWN: i64 = 100;

/// A change that an operator wants of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginChange {
    /// Lets this retained revision serve.
    Activate(Digest),
    /// Lets the revision serve that did before.
    RollBack,
    /// Defers its calls.
    Disable {
        /// The reason, for people.
        reason: String,
    },
    /// Lets it serve again.
    Enable,
    /// Keeps this revision from serving.
    Quarantine {
        /// The revision.
        digest: Digest,
        /// The reason, for people.
        reason: String,
    },
    /// Allows this quarantined revision to serve again.
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

/// A plugin and its audit.
#[derive(Clone, Debug)]
pub struct PluginDetails {
    /// Its revisions and state in this process.
    pub report: PluginReport,
    /// Its audit over every process, the newest step first.
    pub transitions: Vec<PluginTransition>,
}

impl App {
    /// Every plugin that was found, sorted by name.
    pub fn plugins(&self) -> Vec<PluginReport> {
        self.0.engine.plugins()
    }

    /// The reason why the plugins folder cannot be read, if it cannot.
    pub fn plugins_problem(&self) -> Option<String> {
        self.0.engine.folder_problem()
    }

    /// One plugin with its audit; `None` if there is no such plugin.
    pub async fn plugin(&self, name: &str) -> Result<Option<PluginDetails>, AppError> {
        let Some(report) = self.plugin_report(name) else {
            return Ok(None);
        };
        let transitions =
            transitions::newest(&mut self.0.ledger.read().await?, name, MAX_SHOWN).await?;
        Ok(Some(PluginDetails {
            report,
            transitions,
        }))
    }

    /// The report of a plugin in this process; `None` if there is no such plugin.
    pub fn plugin_report(&self, name: &str) -> Option<PluginReport> {
        self.plugins()
            .into_iter()
            .find(|report| report.plugin == name)
    }

    /// Takes an uploaded component through every stage and lets it serve.
    ///
    /// # Errors
    /// The component may not serve; what served before goes on.
    pub async fn upload_plugin(
        &self,
        name: &str,
        component: Arc<[u8]>,
        grants: UploadedGrants,
        actor: &str,
    ) -> Result<Digest, OperationError> {
        let grants = match grants {
            // Read before the upload: an upload replaces grants together with the component.
            UploadedGrants::AsBefore => self.plugin_report(name).and_then(|report| report.grants),
            UploadedGrants::Text(text) => (!text.trim().is_empty()).then_some(text),
        };
        self.0
            .engine
            .upload(name, component, grants.as_deref(), actor)
            .await
    }

    /// Makes a change that an operator wants.
    ///
    /// # Errors
    /// The change was not made, and nothing has changed.
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
}
