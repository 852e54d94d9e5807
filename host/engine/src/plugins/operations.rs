//! Operations of operators and of the breaker on a plugin's revisions.

use super::offer::check_name;
use super::record::Record;
use super::registry::Registry;
use super::step::step;
use crate::contract::{
    digest::Digest,
    fault::OperationError,
    state::{ROLLED_BACK, RevisionState as State},
};

impl Registry {
    /// Goes back to the revision that served before.
    pub(crate) async fn roll_back(
        &self,
        plugin: &str,
        reason: &str,
        actor: &str,
    ) -> Result<Digest, OperationError> {
        let record = {
            // What serves is written a moment later: read before that, the record would name the revision before the last.
            let _written = self.changing();
            self.record_of(plugin)?
        };
        let to = record.fallback().ok_or(OperationError::NoSuchRevision)?;
        self.activate(plugin, to, reason, actor).await?;
        Ok(to)
    }

    /// Lets a retained revision serve.
    pub(crate) async fn activate(
        &self,
        plugin: &str,
        digest: Digest,
        reason: &str,
        actor: &str,
    ) -> Result<(), OperationError> {
        let may = |record: &Record| {
            if let Some(reason) = record.quarantined.get(&digest) {
                return Err(OperationError::Quarantined(reason.clone()));
            }
            let known = record.needed().any(|kept| kept == digest);
            if known {
                Ok(())
            } else {
                Err(OperationError::NoSuchRevision)
            }
        };
        may(&self.record_of(plugin)?)?;
        // Before the change, which must not wait for a compiler.
        self.loaded(plugin, digest).await?;
        self.change(plugin, |record| {
            // Again, with the record locked: another host may have changed it since.
            may(record)?;
            if record.active == Some(digest) {
                return Ok(Vec::new());
            }
            let before = record.active;
            // Going back and going forward order the retained revisions differently.
            if record.fallback() == Some(digest) {
                record.roll_back();
            } else {
                record.activate(digest);
            }
            let mut steps = vec![step(digest, State::Retained, State::Active, reason, actor)];
            steps.extend(
                before.map(|before| step(before, State::Active, State::Draining, reason, actor)),
            );
            Ok(steps)
        })
    }

    /// Disables a plugin: its calls are deferred.
    pub(crate) fn disable(
        &self,
        plugin: &str,
        reason: &str,
        actor: &str,
    ) -> Result<(), OperationError> {
        self.record_of(plugin)?;
        self.change(plugin, |record| {
            let before = record.disabled.replace(reason.to_owned());
            // Already disabled: only the reason changes, which is no step.
            let active = record.active.filter(|_| before.is_none());
            Ok(active
                .map(|digest| step(digest, State::Active, State::Disabled, reason, actor))
                .into_iter()
                .collect())
        })
    }

    /// Enables a plugin again.
    pub(crate) fn enable(&self, plugin: &str, actor: &str) -> Result<(), OperationError> {
        self.record_of(plugin)?;
        self.change(plugin, |record| {
            let before = record.disabled.take();
            let active = record.active.filter(|_| before.is_some());
            Ok(active
                .map(|digest| step(digest, State::Disabled, State::Active, "switched on", actor))
                .into_iter()
                .collect())
        })
    }

    /// Quarantines a revision. If it serves, the one before takes over; if there is none, calls are deferred.
    pub(crate) async fn quarantine(
        &self,
        plugin: &str,
        digest: Digest,
        reason: &str,
        actor: &str,
    ) -> Result<(), OperationError> {
        let record = self.record_of(plugin)?;
        if let Some(fallback) = record.fallback_without(digest) {
            // Best effort: if it cannot be loaded, the plugin is out of service, which is what a quarantine is for.
            drop(self.loaded(plugin, fallback).await);
        }
        self.change(plugin, |record| {
            let known = record.needed().any(|kept| kept == digest)
                || record
                    .refused
                    .as_ref()
                    .is_some_and(|r| r.digest == Some(digest));
            if !known {
                return Err(OperationError::NoSuchRevision);
            }
            if record
                .quarantined
                .insert(digest, reason.to_owned())
                .is_some()
            {
                return Ok(Vec::new());
            }
            if record.active != Some(digest) {
                return Ok(vec![step(
                    digest,
                    State::Retained,
                    State::Quarantined,
                    reason,
                    actor,
                )]);
            }
            let mut steps = vec![step(
                digest,
                State::Active,
                State::Quarantined,
                reason,
                actor,
            )];
            let fallback = record.roll_back();
            steps.extend(
                fallback.map(|to| step(to, State::Retained, State::Active, ROLLED_BACK, actor)),
            );
            Ok(steps)
        })
    }

    /// Releases a revision from quarantine. It serves when it is activated.
    pub(crate) fn release(
        &self,
        plugin: &str,
        digest: Digest,
        actor: &str,
    ) -> Result<(), OperationError> {
        self.record_of(plugin)?;
        self.change(plugin, |record| {
            record
                .quarantined
                .remove(&digest)
                .ok_or(OperationError::NoSuchRevision)?;
            if record
                .refused
                .as_ref()
                .is_some_and(|refused| refused.digest == Some(digest))
            {
                // The folder may offer it again.
                record.refused = None;
                record.folder = None;
            }
            let to = if record.active == Some(digest) {
                State::Active
            } else {
                State::Retained
            };
            Ok(vec![step(
                digest,
                State::Quarantined,
                to,
                "released",
                actor,
            )])
        })
    }

    /// Quarantines a young revision that failed too often, so that the one before serves. Without one before there is
    /// nothing to gain, and the breaker's pause has to do.
    pub(crate) async fn tripped(&self, plugin: &str, digest: Digest, reason: &str) {
        // Another call's fault may have rolled it back already.
        let may_go = self
            .record_of(plugin)
            .is_ok_and(|record| record.active == Some(digest) && record.fallback().is_some());
        if !may_go {
            return;
        }
        if let Err(error) = self.quarantine(plugin, digest, reason, "engine").await {
            tracing::error!(plugin, %digest, %error, "a failing revision could not be rolled back");
        }
    }

    fn record_of(&self, plugin: &str) -> Result<Record, OperationError> {
        // A name that no plugin can have must not reach the file system.
        check_name(plugin).map_err(|_| OperationError::NoSuchPlugin)?;
        let record = self.store.record(plugin)?;
        if record == Record::default() {
            Err(OperationError::NoSuchPlugin)
        } else {
            Ok(record)
        }
    }
}
