use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::gate::Gate;
use crate::load::Loader;
use crate::report::{PluginReport, PluginState};
use crate::revision::Revision;
use crate::{Digest, EngineSettings, Kind, Refusal, Stage};

/// A revision that serves, and the gate of its plugin.
pub(crate) struct Serving {
    pub(crate) revision: Arc<Revision>,
    pub(crate) gate: Arc<Gate>,
}

/// Who serves what at one moment. Replaced as a whole, so a call sees the world before a change or after it.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) adapters: BTreeMap<String, Arc<Serving>>,
    pub(crate) shapers: BTreeMap<String, Arc<Serving>>,
    pub(crate) reports: Vec<PluginReport>,
    pub(crate) folder_problem: Option<String>,
}

/// All plugins: what serves, for calls, and what is known, for the one who changes it.
pub(crate) struct Registry {
    pub(crate) now: ArcSwap<Snapshot>,
    library: Mutex<Library>,
    loader: Loader,
    max_in_flight: usize,
}

/// What is known about every plugin. Behind a lock that is held while a revision loads, so changes come one by one.
#[derive(Default)]
struct Library {
    plugins: BTreeMap<String, Plugin>,
    folder_problem: Option<String>,
}

struct Plugin {
    gate: Arc<Gate>,
    serving: Option<Arc<Revision>>,
    /// The newest bytes that were judged; the same bytes are not judged again.
    judged: Option<Digest>,
    refused: Option<(Option<Digest>, Refusal)>,
}

impl Registry {
    pub(crate) fn new(loader: Loader, settings: &EngineSettings) -> Self {
        Self { now: ArcSwap::default(), library: Mutex::default(), loader, max_in_flight: settings.max_in_flight }
    }

    /// Loads these bytes as the plugin's newest revision and lets it serve, or says why not and changes nothing that
    /// serves. Bytes that were judged before are not judged again.
    pub(crate) async fn offer(&self, name: &str, bytes: Arc<[u8]>) -> Result<Digest, Refusal> {
        let mut library = self.library.lock().await;
        let digest = Digest::of(&bytes);
        if let Some(plugin) = library.plugins.get(name).filter(|plugin| plugin.judged == Some(digest)) {
            return plugin.refused.as_ref().map_or(Ok(digest), |(_, refusal)| Err(refusal.clone()));
        }
        let loaded = match check_file_name(name) {
            Ok(()) => self.loader.load(name, bytes).await,
            Err(refusal) => Err(refusal),
        };
        // Another plugin may go away, so this verdict is not the last one.
        let taken = loaded.as_ref().ok().and_then(|revision| library.taken(revision));
        let plugin = library.plugin(name, self.max_in_flight);
        plugin.judged = taken.is_none().then_some(digest);
        let result = match taken.map_or(loaded, Err) {
            Ok(revision) => {
                tracing::info!(plugin = name, %digest, serves = revision.manifest.serves(), "plugin active");
                plugin.serving = Some(Arc::new(revision));
                plugin.refused = None;
                Ok(digest)
            }
            Err(refusal) => {
                tracing::warn!(plugin = name, %digest, %refusal, "plugin refused");
                plugin.refused = Some((Some(digest), refusal.clone()));
                Err(refusal)
            }
        };
        self.publish(&library);
        result
    }

    /// Notes that a plugin's file could not be read. What serves goes on.
    pub(crate) async fn unreadable(&self, name: &str, refusal: Refusal) {
        let mut library = self.library.lock().await;
        let plugin = library.plugin(name, self.max_in_flight);
        if plugin.refused.as_ref().is_none_or(|(_, known)| *known != refusal) {
            tracing::warn!(plugin = name, %refusal, "plugin refused");
            plugin.judged = None;
            plugin.refused = Some((None, refusal));
            self.publish(&library);
        }
    }

    /// Withdraws every plugin that is not in the folder any more. Calls that run end on what they began with.
    pub(crate) async fn keep_only(&self, names: &[String]) {
        let mut library = self.library.lock().await;
        let before = library.plugins.len();
        library.plugins.retain(|name, _| {
            let kept = names.contains(name);
            if !kept {
                tracing::info!(plugin = name, "plugin withdrawn");
            }
            kept
        });
        if library.plugins.len() != before {
            self.publish(&library);
        }
    }

    pub(crate) async fn set_folder_problem(&self, problem: Option<String>) {
        let mut library = self.library.lock().await;
        if library.folder_problem != problem {
            if let Some(problem) = &problem {
                tracing::warn!(problem, "the plugins folder cannot be read; what serves goes on");
            }
            library.folder_problem = problem;
            self.publish(&library);
        }
    }

    fn publish(&self, library: &Library) {
        let mut snapshot = Snapshot { folder_problem: library.folder_problem.clone(), ..Snapshot::default() };
        for (name, plugin) in &library.plugins {
            snapshot.reports.push(plugin.report(name));
            let Some(revision) = plugin.serving.clone() else { continue };
            let serves = revision.manifest.serves().to_owned();
            let by_name = match revision.manifest.kind() {
                Kind::Adapter => &mut snapshot.adapters,
                Kind::Shaper => &mut snapshot.shapers,
            };
            by_name.insert(serves, Arc::new(Serving { revision, gate: plugin.gate.clone() }));
        }
        self.now.store(Arc::new(snapshot));
    }
}

impl Library {
    fn plugin(&mut self, name: &str, max_in_flight: usize) -> &mut Plugin {
        self.plugins.entry(name.to_owned()).or_insert_with(|| Plugin {
            gate: Arc::new(Gate::of_plugin(max_in_flight)),
            serving: None,
            judged: None,
            refused: None,
        })
    }

    /// The refusal of a revision that wants to serve what another plugin serves.
    fn taken(&self, revision: &Revision) -> Option<Refusal> {
        let manifest = &revision.manifest;
        let same = |other: &Revision| {
            other.plugin() != revision.plugin()
                && other.manifest.kind() == manifest.kind()
                && other.manifest.serves() == manifest.serves()
        };
        let other = self.plugins.values().filter_map(|plugin| plugin.serving.as_deref()).find(|other| same(other))?;
        let cause = format!("the plugin {} already serves {:?}", other.plugin(), manifest.serves());
        Some(Refusal::new(
            Stage::Describe,
            cause,
            "remove one of the two files, or give this one another name to serve",
        ))
    }
}

impl Plugin {
    fn report(&self, name: &str) -> PluginReport {
        let revision = self.serving.as_deref();
        let manifest = revision.map(|revision| &revision.manifest);
        PluginReport {
            plugin: name.to_owned(),
            state: match &self.refused {
                None => PluginState::Active,
                Some((refused, refusal)) => PluginState::Refused { refused: *refused, refusal: refusal.clone() },
            },
            digest: revision.map(Revision::digest),
            kind: manifest.map(|manifest| manifest.kind()),
            serves: manifest.map(|manifest| manifest.serves().to_owned()),
            display_name: manifest.map(|manifest| manifest.display_name().to_owned()),
            version: manifest.map(|manifest| manifest.version().to_owned()),
            manifest: manifest.cloned(),
            inspection: revision.map(|revision| revision.inspection.clone()),
            size: revision.map(|revision| revision.size),
            loaded_at: revision.map(|revision| revision.loaded_at),
        }
    }
}

/// Names are lower case, so that two files cannot differ in their case alone.
fn check_file_name(name: &str) -> Result<(), Refusal> {
    let valid = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if valid {
        return Ok(());
    }
    let cause = "the file's name is not 1 to 64 of a-z, 0-9, `-` and `_` before `.wasm`";
    Err(Refusal::new(Stage::Read, cause, "rename the file"))
}
