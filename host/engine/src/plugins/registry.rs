//! The registry: the plugins of this host as the records in the store want them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::mpsc::UnboundedSender;
use wharf_domain::{Clock, SystemClock};

use super::breaker::Breakers;
use super::load::Loader;
use super::record::Record;
use super::revision::Revision;
use super::snapshot::{Serving, Snapshot};
use super::step::Step;
use super::store::RevisionStore;
use crate::contract::{
    digest::Digest,
    fault::OperationError,
    inspect::Kind,
    manifest::Manifest,
    refusal::{Refusal, Stage},
    state::{RevisionState, Transition},
};

/// All plugins of this host.
pub(crate) struct Registry {
    pub(crate) now: ArcSwap<Snapshot>,
    pub(crate) loader: Loader,
    pub(crate) store: RevisionStore,
    known: Mutex<Known>,
    /// Held while a record is changed or followed in this process. The store's lock does the same between hosts, and is
    /// taken after this one.
    changing: Mutex<()>,
    transitions: UnboundedSender<Transition>,
}

/// The facts that this host knows beyond the store. Locked for moments only, never while something loads.
#[derive(Default)]
pub(super) struct Known {
    pub(super) plugins: BTreeMap<String, Plugin>,
    /// Files that cannot even be read.
    unreadable: BTreeMap<String, Refusal>,
    /// Plugins that are being read, compiled or tried, each with the number of its marks.
    pub(super) loading: BTreeMap<String, u32>,
    folder_problem: Option<String>,
}

pub(super) struct Plugin {
    pub(super) record: Record,
    /// Loaded revisions, the retained ones too: rolling back must not wait for a compiler.
    loaded: BTreeMap<Digest, Arc<Revision>>,
    serving: Option<Arc<Serving>>,
}

impl Registry {
    pub(crate) fn new(
        loader: Loader,
        store: RevisionStore,
        transitions: UnboundedSender<Transition>,
    ) -> Self {
        Self {
            now: ArcSwap::default(),
            loader,
            store,
            known: Mutex::default(),
            changing: Mutex::default(),
            transitions,
        }
    }

    /// Changes a plugin's record, and lets this host serve accordingly. The steps that `change` returns go to the
    /// audit; if it fails, nothing is changed. This host serves first and writes then: no disk, however slow, may hold
    /// up a rollback. If the record cannot be written, all is as before.
    pub(crate) fn change(
        &self,
        plugin: &str,
        change: impl FnOnce(&mut Record) -> Result<Vec<Step>, OperationError>,
    ) -> Result<(), OperationError> {
        // This order everywhere: threads first, so that one host waits for the file once.
        let _of_this_host = self.changing();
        let _of_all_hosts = self.store.lock()?;
        let mut record = self.store.record(plugin)?;
        // Kept to take the change back if it cannot be written.
        let before = record.clone();
        let steps = change(&mut record)?;
        let replaced = self.adopt(plugin, record.clone());
        // No write and no wake-up of other hosts for a change that changes nothing.
        if record != before {
            if let Err(error) = self.store.save(plugin, &record) {
                drop(self.adopt(plugin, before));
                return Err(error.into());
            }
            // Best effort, with the lock held: what is left is removed by the next change.
            if let Err(error) = self.store.prune() {
                tracing::warn!(%error, "revisions that nobody needs could not be removed");
            }
        }
        steps.into_iter().for_each(|step| self.tell(plugin, step));
        replaced
            .into_iter()
            .for_each(|replaced| self.drain(replaced));
        Ok(())
    }

    /// Serves what a record says, if it still says so: a change may have come between. The host that changed it tells
    /// the audit.
    pub(super) fn follow(&self, plugin: &str, record: Record) -> io::Result<()> {
        let _of_this_host = self.changing();
        // Loading took a while, and another change may have overtaken it.
        if self.store.record(plugin)? == record {
            drop(self.adopt(plugin, record));
        }
        Ok(())
    }

    /// Loads the retained revisions, so that rolling back waits for no compiler. Then purges code that nobody needs.
    pub(crate) async fn load_retained(&self) {
        for (plugin, record) in self.store.records().unwrap_or_default() {
            for digest in record.retained {
                if let Err(refusal) = self.loaded(&plugin, digest).await {
                    tracing::warn!(plugin, %digest, %refusal, "a retained revision cannot be loaded");
                }
            }
        }
        self.loader.purge_unused();
    }

    /// Returns the revision, loaded from the store if it is not yet.
    pub(crate) async fn loaded(
        &self,
        plugin: &str,
        digest: Digest,
    ) -> Result<Arc<Revision>, Refusal> {
        if let Some(revision) = self
            .known()
            .plugins
            .get(plugin)
            .and_then(|plugin| plugin.loaded.get(&digest))
        {
            return Ok(revision.clone());
        }
        let gone = |error: io::Error| {
            Refusal::new(Stage::Read, error.to_string(), "install the plugin again")
        };
        let stored = self.store.fetch(digest).map_err(gone)?;
        let revision = Arc::new(self.loader.load(plugin, &stored).await?);
        self.hold(revision.clone());
        Ok(revision)
    }

    /// Keeps a loaded revision at hand.
    pub(crate) fn hold(&self, revision: Arc<Revision>) {
        let mut known = self.known();
        let plugin = known.plugin(revision.plugin());
        plugin.loaded.insert(revision.digest(), revision);
    }

    /// Returns the other plugin that serves the same name already, if there is one.
    pub(crate) fn rival(&self, plugin: &str, manifest: &Manifest) -> Option<String> {
        let now = self.now.load();
        let serving = now.of_kind(manifest.kind()).get(manifest.serves())?;
        let other = serving.revision.plugin();
        (other != plugin).then(|| other.to_owned())
    }

    /// Notes that a file cannot be read, or that it can again.
    pub(crate) fn set_unreadable(&self, plugin: &str, refusal: Option<Refusal>) {
        let mut known = self.known();
        if known.unreadable.get(plugin) == refusal.as_ref() {
            return;
        }
        match refusal {
            Some(refusal) => {
                tracing::warn!(plugin, %refusal, "plugin refused");
                known.unreadable.insert(plugin.to_owned(), refusal);
            }
            None => drop(known.unreadable.remove(plugin)),
        }
        self.publish(&known);
    }

    /// Drops the refusals of unreadable files that are gone.
    pub(crate) fn keep_unreadable(&self, names: &[String]) {
        let mut known = self.known();
        let before = known.unreadable.len();
        known.unreadable.retain(|name, _| names.contains(name));
        if known.unreadable.len() != before {
            self.publish(&known);
        }
    }

    /// Notes why the plugins folder cannot be read, or that it can again.
    pub(crate) fn set_folder_problem(&self, problem: Option<String>) {
        let mut known = self.known();
        if known.folder_problem != problem {
            if let Some(problem) = &problem {
                tracing::warn!(
                    problem,
                    "the plugins folder cannot be read; what serves goes on"
                );
            }
            known.folder_problem = problem;
            self.publish(&known);
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this host serve what a record says, and returns the revision that it replaced. The new one must be loaded.
    fn adopt(&self, name: &str, record: Record) -> Option<Arc<Revision>> {
        let mut known = self.known();
        let plugin = known.plugin(name);
        plugin.record = record;
        let replaced = plugin.serve();
        let needed: Vec<Digest> = plugin.record.needed().collect();
        // Code that can serve no more gives its memory back; running calls hold their own revision.
        plugin.loaded.retain(|digest, _| needed.contains(digest));
        self.publish(&known);
        replaced
    }

    /// Tells the audit when the last call of a replaced revision has ended.
    fn drain(&self, replaced: Arc<Revision>) {
        let transitions = self.transitions.clone();
        tokio::spawn(async move {
            // Ends when the last call that began on it has ended.
            replaced.calls.wait().await;
            let step = Step {
                digest: Some(replaced.digest()),
                from: Some(RevisionState::Draining),
                to: RevisionState::Retained,
                reason: "its last call ended".into(),
                actor: "engine".into(),
            };
            // Nobody listens any more when the engine ends.
            let _ = transitions.send(step.of(replaced.plugin(), SystemClock.now()));
        });
    }

    fn tell(&self, plugin: &str, step: Step) {
        let Step {
            digest,
            to,
            reason,
            actor,
            ..
        } = &step;
        let digest = digest.map(|digest| digest.short());
        match to {
            RevisionState::Refused | RevisionState::NeedsApproval | RevisionState::Quarantined => {
                tracing::warn!(plugin, digest, state = %to, reason, actor, "plugin revision");
            }
            _ => tracing::info!(plugin, digest, state = %to, reason, actor, "plugin revision"),
        }
        let _ = self.transitions.send(step.of(plugin, SystemClock.now()));
    }

    pub(super) fn publish(&self, known: &Known) {
        let mut snapshot = Snapshot {
            folder_problem: known.folder_problem.clone(),
            unreadable: known.unreadable.clone(),
            loading: known.loading.keys().cloned().collect(),
            ..Snapshot::default()
        };
        for (name, plugin) in &known.plugins {
            snapshot.plugins.insert(
                name.clone(),
                (plugin.record.clone(), plugin.serving.clone()),
            );
            let Some(serving) = plugin.serving.clone() else {
                continue;
            };
            let manifest = &serving.revision.manifest;
            let by_name = match manifest.kind() {
                Kind::Adapter => &mut snapshot.adapters,
                Kind::Shaper => &mut snapshot.shapers,
            };
            by_name.insert(manifest.serves().to_owned(), serving);
        }
        // One pointer: a call sees the old state or the new one.
        self.now.store(Arc::new(snapshot));
    }
}

impl Known {
    fn plugin(&mut self, name: &str) -> &mut Plugin {
        self.plugins
            .entry(name.to_owned())
            .or_insert_with(|| Plugin {
                record: Record::default(),
                loaded: BTreeMap::new(),
                serving: None,
            })
    }
}

impl Plugin {
    /// Tells if it serves what its record says.
    pub(super) fn is_settled(&self) -> bool {
        self.serving
            .as_ref()
            .map(|serving| serving.revision.digest())
            == self.record.active
    }

    /// Points to the active revision. Returns the one that it pointed to before, if that is another.
    fn serve(&mut self) -> Option<Arc<Revision>> {
        let before = self.serving.take();
        let revision = self
            .record
            .active
            .and_then(|digest| self.loaded.get(&digest))
            .cloned();
        let same = |serving: &&Arc<Serving>| Some(serving.revision.digest()) == self.record.active;
        self.serving = revision.map(|revision| {
            // A revision that comes back from draining takes calls again.
            revision.calls.reopen();
            // A revision that goes on serving keeps its record of faults.
            let kept = before
                .as_ref()
                .filter(same)
                .map(|serving| serving.breakers.clone());
            Arc::new(Serving {
                revision,
                breakers: kept.unwrap_or_else(|| Arc::new(Breakers::new(Instant::now()))),
                out: self.record.out_of_service(),
            })
        });
        let replaced =
            before.filter(|serving| Some(serving.revision.digest()) != self.record.active)?;
        // From now on the wait for its last call can end.
        replaced.revision.calls.close();
        Some(replaced.revision.clone())
    }
}
