//! Who serves what. The lives on the shelf say it for every host; this is what one host makes of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::mpsc::UnboundedSender;
use wharf_domain::{Clock, SystemClock};

use crate::breaker::Breaker;
use crate::gate::Gate;
use crate::life::Life;
use crate::load::Loader;
use crate::report::{PluginReport, PluginState, RevisionReport};
use crate::revision::Revision;
use crate::shelf::Shelf;
use crate::{Digest, Kind, Manifest, OperationError, Refusal, RevisionState, Stage, Transition};

/// A revision that serves, or would, and what belongs to it.
pub(crate) struct Serving {
    pub(crate) revision: Arc<Revision>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) breaker: Arc<Mutex<Breaker>>,
    /// Why it does not serve now.
    pub(crate) out: Option<String>,
}

/// Who serves what at one moment. Replaced as a whole, so a call sees the world before a change or after it.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) adapters: BTreeMap<String, Arc<Serving>>,
    pub(crate) shapers: BTreeMap<String, Arc<Serving>>,
    plugins: BTreeMap<String, (Life, Option<Arc<Serving>>)>,
    unreadable: BTreeMap<String, Refusal>,
    pub(crate) folder_problem: Option<String>,
}

/// All plugins of this host.
pub(crate) struct Registry {
    pub(crate) now: ArcSwap<Snapshot>,
    pub(crate) loader: Loader,
    pub(crate) shelf: Shelf,
    known: Mutex<Known>,
    /// Held by whoever changes a life here or follows a change; the shelf's turn is between hosts.
    turn: Mutex<()>,
    transitions: UnboundedSender<Transition>,
    max_in_flight: usize,
}

/// What this host knows besides the shelf. Locked for moments only, never while something loads.
#[derive(Default)]
struct Known {
    plugins: BTreeMap<String, Plugin>,
    /// Files that cannot even be read.
    unreadable: BTreeMap<String, Refusal>,
    folder_problem: Option<String>,
}

struct Plugin {
    life: Life,
    gate: Arc<Gate>,
    /// What is loaded, the retained as well: rolling back must not wait for a compiler.
    loaded: BTreeMap<Digest, Arc<Revision>>,
    serving: Option<Arc<Serving>>,
}

impl Registry {
    pub(crate) fn new(
        loader: Loader,
        shelf: Shelf,
        transitions: UnboundedSender<Transition>,
        max_in_flight: usize,
    ) -> Self {
        Self {
            now: ArcSwap::default(),
            loader,
            shelf,
            known: Mutex::default(),
            turn: Mutex::default(),
            transitions,
            max_in_flight,
        }
    }

    /// Changes a plugin's life in this host's turn, and lets this host serve accordingly. What `change` returns is told
    /// to the audit; if it fails, nothing is changed. This host serves first and writes down then: no disk, however slow,
    /// may hold up a rollback. If it cannot be written down, all is as before.
    pub(crate) fn change(
        &self,
        plugin: &str,
        change: impl FnOnce(&mut Life) -> Result<Vec<Step>, OperationError>,
    ) -> Result<(), OperationError> {
        let _of_this_host = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let _of_all_hosts = self.shelf.turn()?;
        let mut life = self.shelf.life(plugin)?;
        let before = life.clone();
        let steps = change(&mut life)?;
        let replaced = self.adopt(plugin, life.clone());
        if life != before {
            if let Err(error) = self.shelf.save(plugin, &life) {
                drop(self.adopt(plugin, before));
                return Err(error.into());
            }
            if let Err(error) = self.shelf.prune() {
                tracing::warn!(%error, "revisions that nobody needs could not be removed");
            }
        }
        steps.into_iter().for_each(|step| self.tell(plugin, step));
        replaced
            .into_iter()
            .for_each(|replaced| self.drain(replaced));
        Ok(())
    }

    /// Follows what other hosts changed, and loads what serves by now.
    pub(crate) async fn reconcile(&self) -> io::Result<()> {
        for (plugin, life) in self.shelf.lives()? {
            if self
                .known()
                .plugins
                .get(&plugin)
                .is_some_and(|known| known.life == life && known.is_settled())
            {
                continue;
            }
            if let Some(digest) = life.active
                && let Err(refusal) = self.loaded(&plugin, digest).await
            {
                tracing::error!(plugin, %digest, %refusal, "the active revision cannot be loaded");
                continue;
            }
            self.follow(&plugin, life)?;
        }
        Ok(())
    }

    /// Serves what a life says, if that is still what it says: a change may have come between. The host that changed it
    /// tells the audit.
    fn follow(&self, plugin: &str, life: Life) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shelf.life(plugin)? == life {
            drop(self.adopt(plugin, life));
        }
        Ok(())
    }

    /// Loads what could serve again, so that rolling back waits for no compiler; then forgets code that nobody needs.
    pub(crate) async fn load_retained(&self) {
        for (plugin, life) in self.shelf.lives().unwrap_or_default() {
            for digest in life.retained {
                if let Err(refusal) = self.loaded(&plugin, digest).await {
                    tracing::warn!(plugin, %digest, %refusal, "a retained revision cannot be loaded");
                }
            }
        }
        self.loader.forget_unused();
    }

    /// The revision, loaded from the shelf if it is not yet.
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
        let stored = self.shelf.fetch(digest).map_err(gone)?;
        let revision = Arc::new(self.loader.load(plugin, &stored).await?);
        self.hold(revision.clone());
        Ok(revision)
    }

    /// Keeps a loaded revision at hand.
    pub(crate) fn hold(&self, revision: Arc<Revision>) {
        let mut known = self.known();
        let plugin = known.plugin(revision.plugin(), self.max_in_flight);
        plugin.loaded.insert(revision.digest(), revision);
    }

    /// The plugin that serves the same name already, if another does.
    pub(crate) fn rival(&self, plugin: &str, manifest: &Manifest) -> Option<String> {
        let now = self.now.load();
        let serving = now.of_kind(manifest.kind()).get(manifest.serves())?;
        let other = serving.revision.plugin();
        (other != plugin).then(|| other.to_owned())
    }

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

    /// Forgets files that are gone and could never be read.
    pub(crate) fn keep_unreadable(&self, names: &[String]) {
        let mut known = self.known();
        let before = known.unreadable.len();
        known.unreadable.retain(|name, _| names.contains(name));
        if known.unreadable.len() != before {
            self.publish(&known);
        }
    }

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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this host serve what a life says, and returns what it replaced. The revision must be loaded.
    fn adopt(&self, name: &str, life: Life) -> Option<Arc<Revision>> {
        let mut known = self.known();
        let plugin = known.plugin(name, self.max_in_flight);
        plugin.life = life;
        let replaced = plugin.serve();
        let needed: Vec<Digest> = plugin.life.needed().collect();
        plugin.loaded.retain(|digest, _| needed.contains(digest));
        self.publish(&known);
        replaced
    }

    /// Tells the audit when the last call of a replaced revision has ended.
    fn drain(&self, replaced: Arc<Revision>) {
        let transitions = self.transitions.clone();
        tokio::spawn(async move {
            replaced.calls.wait().await;
            let step = Step {
                digest: Some(replaced.digest()),
                from: Some(RevisionState::Draining),
                to: RevisionState::Retained,
                reason: "its last call ended".into(),
                actor: "engine".into(),
            };
            // Nobody listens any more when the engine ends.
            let _ = transitions.send(step.of(replaced.plugin()));
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
        let _ = self.transitions.send(step.of(plugin));
    }

    fn publish(&self, known: &Known) {
        let mut snapshot = Snapshot {
            folder_problem: known.folder_problem.clone(),
            unreadable: known.unreadable.clone(),
            ..Snapshot::default()
        };
        for (name, plugin) in &known.plugins {
            snapshot
                .plugins
                .insert(name.clone(), (plugin.life.clone(), plugin.serving.clone()));
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
        self.now.store(Arc::new(snapshot));
    }
}

/// A transition that is still to be given its time and plugin.
pub(crate) struct Step {
    pub(crate) digest: Option<Digest>,
    pub(crate) from: Option<RevisionState>,
    pub(crate) to: RevisionState,
    pub(crate) reason: String,
    pub(crate) actor: String,
}

impl Step {
    fn of(self, plugin: &str) -> Transition {
        let Self {
            digest,
            from,
            to,
            reason,
            actor,
        } = self;
        Transition {
            at: SystemClock.now(),
            plugin: plugin.to_owned(),
            digest,
            from,
            to,
            reason,
            actor,
        }
    }
}

impl Known {
    fn plugin(&mut self, name: &str, max_in_flight: usize) -> &mut Plugin {
        self.plugins
            .entry(name.to_owned())
            .or_insert_with(|| Plugin {
                life: Life::default(),
                gate: Arc::new(Gate::of_plugin(max_in_flight)),
                loaded: BTreeMap::new(),
                serving: None,
            })
    }
}

impl Plugin {
    fn is_settled(&self) -> bool {
        self.serving
            .as_ref()
            .map(|serving| serving.revision.digest())
            == self.life.active
    }

    /// Points to the active revision; returns the one that it pointed to before, if that is another.
    fn serve(&mut self) -> Option<Arc<Revision>> {
        let before = self.serving.take();
        let revision = self
            .life
            .active
            .and_then(|digest| self.loaded.get(&digest))
            .cloned();
        let same = |serving: &&Arc<Serving>| Some(serving.revision.digest()) == self.life.active;
        self.serving = revision.map(|revision| {
            revision.calls.reopen();
            // A revision that goes on serving keeps its record of faults.
            let breaker = before
                .as_ref()
                .filter(same)
                .map(|serving| serving.breaker.clone());
            Arc::new(Serving {
                revision,
                gate: self.gate.clone(),
                breaker: breaker
                    .unwrap_or_else(|| Arc::new(Mutex::new(Breaker::new(Instant::now())))),
                out: self.life.out_of_service(),
            })
        });
        let replaced =
            before.filter(|serving| Some(serving.revision.digest()) != self.life.active)?;
        replaced.revision.calls.close();
        Some(replaced.revision.clone())
    }
}

impl Snapshot {
    fn of_kind(&self, kind: Kind) -> &BTreeMap<String, Arc<Serving>> {
        match kind {
            Kind::Adapter => &self.adapters,
            Kind::Shaper => &self.shapers,
        }
    }

    pub(crate) fn reports(&self) -> Vec<PluginReport> {
        let mut reports: BTreeMap<&str, PluginReport> = self
            .plugins
            .iter()
            .filter(|(_, (life, _))| life.active.is_some() || life.refused.is_some())
            .map(|(name, (life, serving))| (name.as_str(), report(name, life, serving.as_deref())))
            .collect();
        for (name, refusal) in &self.unreadable {
            let report = reports
                .entry(name)
                .or_insert_with(|| report(name, &Life::default(), None));
            report.state = PluginState::Refused {
                refused: None,
                refusal: refusal.clone(),
            };
        }
        reports.into_values().collect()
    }
}

fn report(name: &str, life: &Life, serving: Option<&Serving>) -> PluginReport {
    let revision = serving.map(|serving| &*serving.revision);
    let manifest = revision.map(|revision| &revision.manifest);
    PluginReport {
        plugin: name.to_owned(),
        state: state(life, serving),
        digest: revision.map(Revision::digest),
        kind: manifest.map(|manifest| manifest.kind()),
        serves: manifest.map(|manifest| manifest.serves().to_owned()),
        display_name: manifest.map(|manifest| manifest.display_name().to_owned()),
        version: manifest.map(|manifest| manifest.version().to_owned()),
        manifest: manifest.cloned(),
        inspection: revision.map(|revision| revision.inspection.clone()),
        limits: revision.map(|revision| revision.callable.limits),
        grants: revision
            .and_then(|revision| revision.grants.as_deref())
            .map(String::from),
        size: revision.map(|revision| revision.size),
        loaded_at: revision.map(|revision| revision.loaded_at),
        revisions: revisions(life),
        counters: revision
            .map(|revision| revision.counts.report())
            .unwrap_or_default(),
    }
}

fn state(life: &Life, serving: Option<&Serving>) -> PluginState {
    if let Some(reason) = life.out_of_service() {
        return PluginState::OutOfService { reason };
    }
    if let Some(refused) = &life.refused {
        let (digest, refusal) = (refused.digest, refused.refusal.clone());
        return match refusal.state() {
            RevisionState::NeedsApproval => PluginState::NeedsApproval {
                waiting: digest,
                refusal,
            },
            _ => PluginState::Refused {
                refused: digest,
                refusal,
            },
        };
    }
    let pause = serving.and_then(|serving| {
        serving
            .breaker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed_for(Instant::now())
    });
    match (pause, serving) {
        (Some(pause), _) => PluginState::OutOfService {
            reason: format!("pausing for {} s after too many faults", pause.as_secs()),
        },
        (None, Some(_)) => PluginState::Active,
        (None, None) => PluginState::OutOfService {
            reason: "its revision cannot be loaded here".into(),
        },
    }
}

fn revisions(life: &Life) -> Vec<RevisionReport> {
    let mut reports: Vec<RevisionReport> = Vec::new();
    let active = if life.disabled.is_some() {
        RevisionState::Disabled
    } else {
        RevisionState::Active
    };
    let states = life.active.map(|digest| (digest, active));
    for (digest, state) in states.into_iter().chain(
        life.retained
            .iter()
            .map(|kept| (*kept, RevisionState::Retained)),
    ) {
        let reason = life.quarantined.get(&digest).cloned();
        let state = if reason.is_some() {
            RevisionState::Quarantined
        } else {
            state
        };
        reports.push(RevisionReport {
            digest,
            state,
            reason,
        });
    }
    let listed = |digest: &Digest, reports: &[RevisionReport]| {
        reports.iter().any(|report| report.digest == *digest)
    };
    for (digest, reason) in &life.quarantined {
        if !listed(digest, &reports) {
            let reason = Some(reason.clone());
            reports.push(RevisionReport {
                digest: *digest,
                state: RevisionState::Quarantined,
                reason,
            });
        }
    }
    if let Some((digest, refusal)) = life
        .refused
        .as_ref()
        .and_then(|refused| Some((refused.digest?, &refused.refusal)))
        && !listed(&digest, &reports)
    {
        reports.push(RevisionReport {
            digest,
            state: refusal.state(),
            reason: Some(refusal.to_string()),
        });
    }
    reports
}
