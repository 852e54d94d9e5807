//! The snapshot that calls read: every serving revision by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::breaker::Breakers;
use super::record::Record;
use super::reports::report;
use super::revision::Revision;
use crate::contract::{
    refusal::Refusal,
    report::{PluginReport, PluginState},
};

/// A revision that serves, or would, with its breakers.
pub(crate) struct Serving {
    pub(crate) revision: Arc<Revision>,
    pub(crate) breakers: Arc<Breakers>,
    /// The reason why it does not serve now.
    pub(crate) out: Option<String>,
}

/// All serving revisions at one moment. Replaced as a whole, so a call sees the state before a change or after it.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) adapters: BTreeMap<String, Arc<Serving>>,
    pub(crate) shapers: BTreeMap<String, Arc<Serving>>,
    pub(super) plugins: BTreeMap<String, (Record, Option<Arc<Serving>>)>,
    pub(super) unreadable: BTreeMap<String, Refusal>,
    /// Plugins that are being read, compiled or tried.
    pub(crate) loading: BTreeSet<String>,
    pub(crate) folder_problem: Option<String>,
}

impl Snapshot {
    /// Returns every plugin that was found, sorted by name.
    pub(crate) fn reports(&self) -> Vec<PluginReport> {
        let mut reports: BTreeMap<&str, PluginReport> = self
            .plugins
            .iter()
            // A withdrawn plugin keeps its record for rolling back, and is not shown.
            .filter(|(_, (record, _))| record.active.is_some() || record.refused.is_some())
            .map(|(name, (record, serving))| {
                (name.as_str(), report(name, record, serving.as_deref()))
            })
            .collect();
        for name in &self.loading {
            let report = reports
                .entry(name)
                .or_insert_with(|| report(name, &Record::default(), None));
            // What serves goes on, and what an operator took out of service stays there.
            let out = self
                .plugins
                .get(name)
                .is_some_and(|(record, _)| record.out_of_service().is_some());
            if report.digest.is_none() && !out {
                report.state = PluginState::Loading;
            }
        }
        for (name, refusal) in &self.unreadable {
            let report = reports
                .entry(name)
                .or_insert_with(|| report(name, &Record::default(), None));
            report.state = PluginState::Refused {
                refused: None,
                refusal: refusal.clone(),
            };
        }
        reports.into_values().collect()
    }
}
