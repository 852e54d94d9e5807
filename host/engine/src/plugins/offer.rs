//! New revisions: offered by the folder or an upload, then installed or refused.

use std::sync::Arc;

use super::conformance;
use super::record::{Record, Refused, Source};
use super::registry::Registry;
use super::revision::Revision;
use super::step::{passed, step};
use super::store::Stored;
use crate::contract::{
    digest::Digest,
    fault::OperationError,
    refusal::{Refusal, Stage},
    state::RevisionState as State,
};

impl Registry {
    /// Takes a revision through every stage and lets it serve, or refuses it and changes nothing that serves. The
    /// folder's revision is judged once, and the verdict is kept.
    pub(crate) async fn offer(
        &self,
        plugin: &str,
        stored: Stored,
        source: Source,
        actor: &str,
    ) -> Result<Digest, OperationError> {
        check_name(plugin)?;
        let digest = stored.digest();
        let record = self.store.record(plugin)?;
        if source == Source::Folder && record.folder == Some(digest) {
            return Ok(digest);
        }
        let _loading = self.loading(plugin);
        // Examined without a lock: compiling takes seconds.
        match self.examine(plugin, &stored, &record).await {
            Ok(revision) => {
                self.hold(Arc::new(revision));
                self.install(plugin, &stored, source, actor)?;
                Ok(digest)
            }
            Err(refusal) => {
                self.refuse(plugin, digest, refusal.clone(), source, actor)?;
                Err(refusal.into())
            }
        }
    }

    /// Finds out everything about a revision that can be known before it serves.
    async fn examine(
        &self,
        plugin: &str,
        stored: &Stored,
        record: &Record,
    ) -> Result<Revision, Refusal> {
        if let Some(reason) = record.quarantined.get(&stored.digest()) {
            let cause = format!("this revision is quarantined: {reason}");
            return Err(Refusal::new(
                Stage::Activate,
                cause,
                "release it, or install another",
            ));
        }
        let revision = self.loader.load(plugin, stored).await?;
        // Two plugins of one name: the first keeps it, because orders may be on their way to it.
        if let Some(rival) = self.rival(plugin, &revision.manifest) {
            let cause = format!(
                "the plugin {rival} already serves {:?}",
                revision.manifest.serves()
            );
            let fix = "remove one of the two files, or give this one another name to serve";
            return Err(Refusal::new(Stage::Activate, cause, fix).passing());
        }
        // Last, because it takes longest.
        let refused_before = self.loader.memory_refusals();
        let limit = self.loader.conformance_limit();
        conformance::check(&revision, &stored.bytes, limit)
            .await
            .map_err(|refusal| {
                // The host ran out of memory meanwhile, perhaps in this very trial: it is tried again.
                if self.loader.memory_refusals() == refused_before {
                    refusal
                } else {
                    refusal.passing()
                }
            })?;
        Ok(revision)
    }

    fn install(
        &self,
        plugin: &str,
        stored: &Stored,
        source: Source,
        actor: &str,
    ) -> Result<(), OperationError> {
        let digest = stored.digest();
        self.change(plugin, |record| {
            // The same file once more is no news for the audit.
            let known = record.active == Some(digest);
            // Before the record that names it: a kill between the two leaves unused bytes, never a missing revision.
            self.store.keep(digest, stored)?;
            if source == Source::Folder {
                record.folder = Some(digest);
            }
            let before = record.activate(digest);
            if known {
                return Ok(Vec::new());
            }
            let mut steps = passed(digest, None, actor);
            steps.push(step(
                digest,
                State::Conformant,
                State::Active,
                "it may serve",
                actor,
            ));
            steps.extend(before.map(|before| {
                step(
                    before,
                    State::Active,
                    State::Draining,
                    "another took its place",
                    actor,
                )
            }));
            Ok(steps)
        })
    }

    fn refuse(
        &self,
        plugin: &str,
        digest: Digest,
        refusal: Refusal,
        source: Source,
        actor: &str,
    ) -> Result<(), OperationError> {
        self.change(plugin, |record| {
            // What may pass by itself is offered again by the next look at the folder.
            if source == Source::Folder && !refusal.passing {
                record.folder = Some(digest);
            }
            let refused = Refused {
                digest: Some(digest),
                refusal: refusal.clone(),
                source,
            };
            // Each look at the folder finds it again; the audit is told once.
            if record.refused.replace(refused.clone()) == Some(refused) {
                return Ok(Vec::new());
            }
            let mut steps = passed(digest, Some(refusal.stage), actor);
            let from = steps.last().map_or(State::Staged, |step| step.to);
            steps.push(step(
                digest,
                from,
                refusal.state(),
                &refusal.to_string(),
                actor,
            ));
            Ok(steps)
        })
    }

    /// Withdraws the plugins whose files are gone. Those that were uploaded stay.
    pub(crate) fn withdraw_all_but(&self, names: &[String]) -> Result<(), OperationError> {
        for (plugin, record) in self.store.records()? {
            if names.contains(&plugin) || !record.is_of_folder() {
                continue;
            }
            self.change(&plugin, |record| {
                let gone = |digest| {
                    step(
                        digest,
                        State::Active,
                        State::Retained,
                        "its file is gone",
                        "folder",
                    )
                };
                Ok(record.withdraw().map(gone).into_iter().collect())
            })?;
        }
        Ok(())
    }
}

/// Checks a plugin's name. Names are lower case, so that two files cannot differ in their case alone.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let valid = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if valid {
        return Ok(());
    }
    let cause = "the plugin's name is not 1 to 64 of a-z, 0-9, `-` and `_` before `.wasm`";
    Err(Refusal::new(Stage::Read, cause, "rename the file"))
}
