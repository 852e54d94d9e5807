//! A folder of plugins that an engine watches, and short questions about what became of its files.
#![allow(clippy::disallowed_methods, reason = "test code")]
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use wharf_engine::{Digest, Engine, EngineSettings, PluginState, Stage};

use super::{component, started};

/// A folder of plugins and a state folder.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) state: TempDir,
}

impl Site {
    pub(crate) fn new(plugins: &[&str]) -> Self {
        let site = Self {
            folder: tempfile::tempdir().expect("a folder"),
            state: tempfile::tempdir().expect("a folder"),
        };
        plugins
            .iter()
            .for_each(|name| site.put(name, &component(name)));
        site
    }

    pub(crate) fn start(&self) -> Engine {
        started(EngineSettings::new(self.folder.path(), self.state.path()))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.wasm"))
    }

    /// As a careful operator does it: written beside, renamed.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let beside = self.folder.path().join(format!(".{name}.part"));
        fs::write(&beside, bytes).expect("written");
        fs::rename(beside, self.file(name)).expect("renamed");
    }
}

pub(crate) fn digest(engine: &Engine, plugin: &str) -> Option<Digest> {
    engine
        .plugins()
        .into_iter()
        .find(|report| report.plugin == plugin)?
        .digest
}

pub(crate) fn refused(engine: &Engine, plugin: &str) -> Option<Stage> {
    match engine
        .plugins()
        .into_iter()
        .find(|report| report.plugin == plugin)?
        .state
    {
        PluginState::Refused { refusal, .. } => Some(refusal.stage),
        _ => None,
    }
}

/// The same code under another digest.
pub(crate) fn with_section(component: &[u8]) -> Vec<u8> {
    let mut bytes = component.to_vec();
    bytes.extend_from_slice(&[0, 2, 1, b'x']);
    bytes
}
