//! What changes the life of a plugin: a new revision offered, and what operators and the breaker do.

use std::sync::Arc;

use crate::conformance;
use crate::life::{Life, Refused, Source};
use crate::registry::{Registry, Step};
use crate::report::Stage;
use crate::revision::Revision;
use crate::shelf::Stored;
use crate::{Digest, OperationError, Refusal, RevisionState as State};

impl Registry {
    /// Takes a revision through every stage and lets it serve, or says why not and changes nothing that serves. What
    /// the folder holds is judged once; the verdict is kept.
    pub(crate) async fn offer(
        &self,
        plugin: &str,
        stored: Stored,
        source: Source,
        actor: &str,
    ) -> Result<Digest, OperationError> {
        check_name(plugin)?;
        let digest = stored.digest();
        let life = self.shelf.life(plugin)?;
        if source == Source::Folder && life.folder == Some(digest) {
            return Ok(digest);
        }
        match self.examine(plugin, &stored, &life).await {
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

    /// Everything that can be found out about a revision before it serves.
    async fn examine(
        &self,
        plugin: &str,
        stored: &Stored,
        life: &Life,
    ) -> Result<Revision, Refusal> {
        if let Some(reason) = life.quarantined.get(&stored.digest()) {
            let cause = format!("this revision is quarantined: {reason}");
            return Err(Refusal::new(
                Stage::Activate,
                cause,
                "release it, or install another",
            ));
        }
        let revision = self.loader.load(plugin, stored).await?;
        if let Some(rival) = self.rival(plugin, &revision.manifest) {
            let cause = format!(
                "the plugin {rival} already serves {:?}",
                revision.manifest.serves()
            );
            let fix = "remove one of the two files, or give this one another name to serve";
            return Err(Refusal::new(Stage::Activate, cause, fix).passing());
        }
        conformance::check(&revision, &stored.bytes).await?;
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
        self.change(plugin, |life| {
            let known = life.active == Some(digest);
            self.shelf.keep(digest, stored)?;
            if source == Source::Folder {
                life.folder = Some(digest);
            }
            let before = life.activate(digest);
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
        self.change(plugin, |life| {
            // What may pass by itself is offered again by the next look at the folder.
            if source == Source::Folder && !refusal.passing {
                life.folder = Some(digest);
            }
            let refused = Refused {
                digest: Some(digest),
                refusal: refusal.clone(),
                source,
            };
            if life.refused.replace(refused.clone()) == Some(refused) {
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

    /// Takes out the plugins whose files are gone. Those that came by upload stay.
    pub(crate) fn withdraw_all_but(&self, names: &[String]) -> Result<(), OperationError> {
        for (plugin, life) in self.shelf.lives()? {
            if names.contains(&plugin) || !life.is_of_folder() {
                continue;
            }
            self.change(&plugin, |life| {
                let gone = |digest| {
                    step(
                        digest,
                        State::Active,
                        State::Retained,
                        "its file is gone",
                        "folder",
                    )
                };
                Ok(life.withdraw().map(gone).into_iter().collect())
            })?;
        }
        Ok(())
    }

    /// Goes back to the revision that served before.
    pub(crate) async fn roll_back(
        &self,
        plugin: &str,
        reason: &str,
        actor: &str,
    ) -> Result<Digest, OperationError> {
        let to = self
            .life_of(plugin)?
            .fallback()
            .ok_or(OperationError::NoSuchRevision)?;
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
        let may = |life: &Life| {
            if let Some(reason) = life.quarantined.get(&digest) {
                return Err(OperationError::Quarantined(reason.clone()));
            }
            let known = life.needed().any(|kept| kept == digest);
            if known {
                Ok(())
            } else {
                Err(OperationError::NoSuchRevision)
            }
        };
        may(&self.life_of(plugin)?)?;
        self.loaded(plugin, digest).await?;
        self.change(plugin, |life| {
            may(life)?;
            if life.active == Some(digest) {
                return Ok(Vec::new());
            }
            let before = life.active;
            if life.fallback() == Some(digest) {
                life.roll_back();
            } else {
                life.activate(digest);
            }
            let mut steps = vec![step(digest, State::Retained, State::Active, reason, actor)];
            steps.extend(
                before.map(|before| step(before, State::Active, State::Draining, reason, actor)),
            );
            Ok(steps)
        })
    }

    /// Switches a plugin off: its calls are deferred.
    pub(crate) fn disable(
        &self,
        plugin: &str,
        reason: &str,
        actor: &str,
    ) -> Result<(), OperationError> {
        self.life_of(plugin)?;
        self.change(plugin, |life| {
            let before = life.disabled.replace(reason.to_owned());
            let active = life.active.filter(|_| before.is_none());
            Ok(active
                .map(|digest| step(digest, State::Active, State::Disabled, reason, actor))
                .into_iter()
                .collect())
        })
    }

    /// Switches it on again.
    pub(crate) fn enable(&self, plugin: &str, actor: &str) -> Result<(), OperationError> {
        self.life_of(plugin)?;
        self.change(plugin, |life| {
            let before = life.disabled.take();
            let active = life.active.filter(|_| before.is_some());
            Ok(active
                .map(|digest| step(digest, State::Disabled, State::Active, "switched on", actor))
                .into_iter()
                .collect())
        })
    }

    /// Puts a revision aside for good. If it serves, the one before takes over; if there is none, calls are deferred.
    pub(crate) async fn quarantine(
        &self,
        plugin: &str,
        digest: Digest,
        reason: &str,
        actor: &str,
    ) -> Result<(), OperationError> {
        let life = self.life_of(plugin)?;
        if let Some(fallback) = life.fallback_without(digest) {
            // Best effort: if it cannot be loaded, the plugin is out of service, which is what a quarantine is for.
            drop(self.loaded(plugin, fallback).await);
        }
        self.change(plugin, |life| {
            let known = life.needed().any(|kept| kept == digest)
                || life
                    .refused
                    .as_ref()
                    .is_some_and(|r| r.digest == Some(digest));
            if !known {
                return Err(OperationError::NoSuchRevision);
            }
            if life.quarantined.insert(digest, reason.to_owned()).is_some() {
                return Ok(Vec::new());
            }
            if life.active != Some(digest) {
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
            let fallback = life.roll_back();
            steps.extend(
                fallback.map(|to| step(to, State::Retained, State::Active, "rolled back", actor)),
            );
            Ok(steps)
        })
    }

    /// Lets a quarantined revision serve again, if it is asked to.
    pub(crate) fn release(
        &self,
        plugin: &str,
        digest: Digest,
        actor: &str,
    ) -> Result<(), OperationError> {
        self.life_of(plugin)?;
        self.change(plugin, |life| {
            life.quarantined
                .remove(&digest)
                .ok_or(OperationError::NoSuchRevision)?;
            if life
                .refused
                .as_ref()
                .is_some_and(|refused| refused.digest == Some(digest))
            {
                // The folder may offer it again.
                life.refused = None;
                life.folder = None;
            }
            let to = if life.active == Some(digest) {
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

    /// What the breaker asks for when a young revision fails too often: the one before serves, this one is put aside.
    /// Without one before there is nothing to gain, and the breaker's pause is all.
    pub(crate) async fn tripped(&self, plugin: &str, digest: Digest, reason: &str) {
        let may_go = self
            .life_of(plugin)
            .is_ok_and(|life| life.active == Some(digest) && life.fallback().is_some());
        if !may_go {
            return;
        }
        if let Err(error) = self.quarantine(plugin, digest, reason, "engine").await {
            tracing::error!(plugin, %digest, %error, "a failing revision could not be rolled back");
        }
    }

    fn life_of(&self, plugin: &str) -> Result<Life, OperationError> {
        // A name that no plugin can have must not reach the file system.
        check_name(plugin).map_err(|_| OperationError::NoSuchPlugin)?;
        let life = self.shelf.life(plugin)?;
        if life == Life::default() {
            Err(OperationError::NoSuchPlugin)
        } else {
            Ok(life)
        }
    }
}

fn step(digest: Digest, from: State, to: State, reason: &str, actor: &str) -> Step {
    Step {
        digest: Some(digest),
        from: Some(from),
        to,
        reason: reason.to_owned(),
        actor: actor.to_owned(),
    }
}

/// The stages that a revision passed before the one that stopped it.
fn passed(digest: Digest, stopped: Option<Stage>, actor: &str) -> Vec<Step> {
    let stages = [
        (State::Staged, None, "its bytes are here"),
        (
            State::Verified,
            Some(Stage::Verify),
            "its world, version and imports are known",
        ),
        (
            State::Compiled,
            Some(Stage::Approve),
            "it was compiled, tried and granted what it asks for",
        ),
        (
            State::Conformant,
            Some(Stage::Conform),
            "it kept every law and every vector",
        ),
    ];
    let reached = stages
        .into_iter()
        .take_while(|(_, needs, _)| needs.is_none_or(|needs| stopped.is_none_or(|at| at > needs)));
    let mut from = None;
    reached
        .map(|(to, _, reason)| Step {
            digest: Some(digest),
            from: from.replace(to),
            to,
            reason: reason.to_owned(),
            actor: actor.to_owned(),
        })
        .collect()
}

/// Names are lower case, so that two files cannot differ in their case alone.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
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
