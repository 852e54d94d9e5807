//! Reports about plugins, for operators.

use std::fmt;

use serde::Serialize;
use wharf_domain::Time;

use super::{
    digest::Digest,
    fault::Blame,
    inspect::{Inspection, Kind},
    limits::Limits,
    manifest::Manifest,
    refusal::Refusal,
    state::RevisionState,
};

/// The state of a plugin: its newest revision serves, or the reason why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum PluginState {
    /// The newest revision serves.
    Active,
    /// Nothing serves yet: its newest revision is being read, compiled and tried. Calls are deferred.
    Loading,
    /// The newest revision does not. An older one may serve on: `digest` of the report says which.
    Refused {
        /// The refused revision, if it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<Digest>,
        /// The reason.
        refusal: Refusal,
    },
    /// The newest revision asks for more than it was granted. An older one may serve on.
    NeedsApproval {
        /// The waiting revision.
        waiting: Option<Digest>,
        /// The grants it asks for.
        refusal: Refusal,
    },
    /// Nothing serves until an operator acts or a pause ends.
    OutOfService {
        /// Disabled, quarantined, or pausing after too many faults.
        reason: String,
    },
}

impl fmt::Display for PluginState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("active"),
            Self::Loading => f.write_str("loading"),
            Self::Refused { refusal, .. } | Self::NeedsApproval { refusal, .. } => refusal.fmt(f),
            Self::OutOfService { reason } => f.write_str(reason),
        }
    }
}

/// One plugin, for operators.
#[derive(Clone, Debug, Serialize)]
pub struct PluginReport {
    /// The file's name without `.wasm`.
    pub plugin: String,
    /// The state of its newest revision.
    #[serde(flatten)]
    pub state: PluginState,
    /// The revision that serves.
    pub digest: Option<Digest>,
    /// Adapter or shaper.
    pub kind: Option<Kind>,
    /// The marketplace or shaper name that it serves.
    pub serves: Option<String>,
    /// The name for people.
    pub display_name: Option<String>,
    /// The plugin's own version.
    pub version: Option<String>,
    /// Its own description.
    pub manifest: Option<Manifest>,
    /// The contract's version, imports and exports, read from its names.
    pub inspection: Option<Inspection>,
    /// The limits of a call.
    pub limits: Option<Limits>,
    /// The text of the grants that it serves with: secrets stand there by reference alone.
    pub grants: Option<String>,
    /// The component's size in bytes.
    pub size: Option<usize>,
    /// The time at which this process loaded the serving revision, RFC 3339.
    #[serde(serialize_with = "maybe_rfc3339")]
    pub loaded_at: Option<Time>,
    /// Every revision that is known, the serving one first.
    pub revisions: Vec<RevisionReport>,
    /// Ended calls of the serving revision in this process.
    pub counters: Counters,
    /// Calls that this process keeps back for a while.
    pub pauses: Pauses,
}

/// Open circuits of a plugin in this process. One that is open for everybody is the plugin's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pauses {
    /// Organizations on whose inputs the plugin fails.
    pub organizations: usize,
    /// Accounts at the marketplace for which it fails or answers too late.
    pub accounts: usize,
    /// Seconds until the marketplace is asked again, if it fails for everybody.
    pub upstream_seconds: Option<u64>,
}

/// One revision of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevisionReport {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its state.
    pub state: RevisionState,
    /// The reason for the state, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Ended calls since this process loaded the revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// With an answer.
    pub answered: u64,
    /// By the plugin's own fault.
    pub plugin_faults: u64,
    /// By the fault of the marketplace, or of the question.
    pub upstream_faults: u64,
    /// By this host's fault.
    pub host_faults: u64,
    /// The newest faults first, at most 20.
    pub last_faults: Vec<FaultReport>,
}

/// One fault, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultReport {
    /// The time, RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub at: Time,
    /// The party at fault.
    pub blame: Blame,
    /// The fault, for people.
    pub fault: String,
}

fn rfc3339<S: serde::Serializer>(at: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn maybe_rfc3339<S: serde::Serializer>(
    at: &Option<Time>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(serializer)
}
