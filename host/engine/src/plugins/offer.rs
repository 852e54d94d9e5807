//! New revisions: offered by an upload or, through `deploy.rs`, by the folder; then installed or refused.

use std::sync::Arc;

use super::conformance;
use super::deploy::Name;
use super::load::Secrets;
use super::record::{Record, Refused, Source};
use super::registry::Registry;
use super::revision::Revision;
use super::step::{Step, passed, step};
use super::store::Stored;
use crate::contract::{
    digest::Digest,
    fault::OperationError,
    refusal::{Refusal, Stage},
    state::RevisionState as State,
};

/// A revision that was loaded and may serve if it keeps the contract and its name is free.
pub(super) struct Candidate {
    pub(super) plugin: String,
    pub(super) stored: Stored,
    revision: Arc<Revision>,
}

impl Candidate {
    /// Returns the name that it wants to serve.
    pub(super) fn name(&self) -> Name {
        Name::of(&self.revision.manifest)
    }
}

impl Registry {
    /// Takes an uploaded revision through every stage and lets it serve, or refuses it and changes nothing that serves.
    pub(crate) async fn offer(
        &self,
        plugin: &str,
        stored: Stored,
        actor: &str,
    ) -> Result<Digest, OperationError> {
        check_name(plugin)?;
        let digest = stored.digest();
        let record = self.store.record(plugin)?;
        let _loading = self.loading(plugin);
        // Examined without a lock: compiling takes seconds.
        match self.examine(plugin, stored, &record).await {
            Ok(candidate) => {
                self.install(&[candidate], Source::Upload, actor)?;
                Ok(digest)
            }
            Err(refusal) => {
                self.refuse(plugin, digest, refusal.clone(), Source::Upload, actor)?;
                Err(refusal.into())
            }
        }
    }

    /// Finds out everything about a revision that can be known before it serves.
    async fn examine(
        &self,
        plugin: &str,
        stored: Stored,
        record: &Record,
    ) -> Result<Candidate, Refusal> {
        let candidate = self.candidate(plugin, stored, record).await?;
        if let Some(rival) = self.rival(&candidate) {
            return Err(taken(&candidate, &rival));
        }
        self.try_out(&candidate).await?;
        Ok(candidate)
    }

    /// Loads a revision that is not quarantined.
    pub(super) async fn candidate(
        &self,
        plugin: &str,
        stored: Stored,
        record: &Record,
    ) -> Result<Candidate, Refusal> {
        if let Some(reason) = record.quarantined.get(&stored.digest()) {
            let cause = format!("this revision is quarantined: {reason}");
            let fix = "release it, or install another";
            return Err(Refusal::new(Stage::Activate, cause, fix));
        }
        let revision = Arc::new(self.loader.load(plugin, &stored, Secrets::Readable).await?);
        Ok(Candidate {
            plugin: plugin.to_owned(),
            stored,
            revision,
        })
    }

    /// Returns the other plugin that serves the candidate's name now, if there is one.
    pub(super) fn rival(&self, candidate: &Candidate) -> Option<String> {
        let name = candidate.name();
        let mut held = self.held().into_iter();
        held.find(|(held, plugin)| *held == name && *plugin != candidate.plugin)
            .map(|(_, plugin)| plugin)
    }

    /// Runs the contract checks and vectors. The last stage before a revision serves, because it takes longest.
    pub(super) async fn try_out(&self, candidate: &Candidate) -> Result<(), Refusal> {
        let refused_before = self.loader.memory_refusals();
        let limit = self.loader.conformance_limit();
        conformance::check(&candidate.revision, &candidate.stored.bytes, limit)
            .await
            .map_err(|refusal| {
                // The host ran out of memory meanwhile, perhaps in this very trial: it is tried again.
                if self.loader.memory_refusals() == refused_before {
                    refusal
                } else {
                    refusal.passing()
                }
            })
    }

    /// Lets the candidates serve, all at one moment.
    pub(super) fn install(
        &self,
        candidates: &[Candidate],
        source: Source,
        actor: &str,
    ) -> Result<(), OperationError> {
        for candidate in candidates {
            self.hold(candidate.revision.clone());
        }
        let changes = candidates.iter().map(|candidate| {
            let change =
                move |record: &mut Record| self.activate_new(record, candidate, source, actor);
            (candidate.plugin.as_str(), change)
        });
        self.change_all(changes.collect())
    }

    fn activate_new(
        &self,
        record: &mut Record,
        candidate: &Candidate,
        source: Source,
        actor: &str,
    ) -> Result<Vec<Step>, OperationError> {
        let digest = candidate.stored.digest();
        // The same file once more is no news for the audit.
        let known = record.active == Some(digest);
        // Before the record that names it: a kill between the two leaves unused bytes, never a missing revision.
        self.store.keep(digest, &candidate.stored)?;
        if source == Source::Folder {
            record.folder = Some(digest);
        }
        let before = record.activate(digest);
        if known {
            return Ok(Vec::new());
        }
        let mut steps = passed(digest, None, actor);
        let (conformant, active, draining) = (State::Conformant, State::Active, State::Draining);
        steps.push(step(digest, conformant, active, "it may serve", actor));
        steps.extend(
            before.map(|before| step(before, active, draining, "another took its place", actor)),
        );
        Ok(steps)
    }

    pub(super) fn refuse(
        &self,
        plugin: &str,
        digest: Digest,
        refusal: Refusal,
        source: Source,
        actor: &str,
    ) -> Result<(), OperationError> {
        self.change(plugin, |record| {
            // Another host judged the same file meanwhile, and saw more of what it depends on.
            if source == Source::Folder && record.folder == Some(digest) {
                return Ok(Vec::new());
            }
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

/// Refuses a candidate whose name another plugin keeps, because orders may be on their way to it.
pub(super) fn taken(candidate: &Candidate, rival: &str) -> Refusal {
    let serves = candidate.revision.manifest.serves();
    let cause = format!("the plugin {rival} already serves {serves:?}");
    let fix = "remove one of the two files, or give this one another name to serve";
    Refusal::new(Stage::Activate, cause, fix).passing()
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
