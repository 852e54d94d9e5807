//! The registry: the plugins of this host as the records in the store want them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::mpsc::UnboundedSender;
use wharf_domain::{Clock, SystemClock};

use super::breaker::Breakers;
use super::deploy::Name;
use super::load::{Loader, Secrets};
use super::record::Record;
use super::revision::Revision;
use super::snapshot::{Serving, Snapshot};
use super::step::Step;
use super::store::RevisionStore;
use crate::contract::{
    digest::Digest,
    inspect::Kind,
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

    /// Serves what a record says, if it still says so: a change may have come between. The host that changed it tells
    /// the audit.
    pub(super) fn follow(&self, plugin: &str, record: Record) -> io::Result<()> {
        let _of_this_host = self.changing();
        // Loading took a while, and another change may have overtaken it.
        if self.store.record(plugin)? == record {
            drop(self.adopt([(plugin, record)]));
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
        let revision = Arc::new(self.loader.load(plugin, &stored, Secrets::Readable).await?);
        self.hold(revision.clone());
        Ok(revision)
    }

    /// Keeps a loaded revision at hand.
    pub(crate) fn hold(&self, revision: Arc<Revision>) {
        let mut known = self.known();
        let plugin = known.plugin(revision.plugin());
        plugin.loaded.insert(revision.digest(), revision);
    }

    /// Returns every name that serves, with the plugin that serves it.
    pub(super) fn held(&self) -> Vec<(Name, String)> {
        let known = self.known();
        let serving = known
            .plugins
            .iter()
            .filter_map(|(plugin, state)| Some((plugin, state.serving.as_ref()?)));
        serving
            .map(|(plugin, serving)| (Name::of(&serving.revision.manifest), plugin.clone()))
            .collect()
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

    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this host serve what these records say, all at one moment, and returns the revisions that they replaced. The
    /// new ones must be loaded.
    pub(super) fn adopt<'a>(
        &self,
        records: impl IntoIterator<Item = (&'a str, Record)>,
    ) -> Vec<Arc<Revision>> {
        let mut known = self.known();
        let mut replaced = Vec::new();
        for (name, record) in records {
            let plugin = known.plugin(name);
            plugin.record = record;
            replaced.extend(plugin.serve());
            let needed: Vec<Digest> = plugin.record.needed().collect();
            // Code that can serve no more gives its memory back; running calls hold their own revision.
            plugin.loaded.retain(|digest, _| needed.contains(digest));
        }
        self.publish(&known);
        replaced
    }

    /// Tells the audit when the last call of a replaced revision has ended.
    pub(super) fn drain(&self, replaced: Arc<Revision>) {
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

    pub(super) fn tell(&self, plugin: &str, step: Step) {
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
            // One that takes its place knows who calls the plugin.
            let fresh = || match &before {
                Some(before) => before.breakers.successor(Instant::now()),
                None => Breakers::new(Instant::now()),
            };
            Arc::new(Serving {
                revision,
                breakers: kept.unwrap_or_else(|| Arc::new(fresh())),
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
