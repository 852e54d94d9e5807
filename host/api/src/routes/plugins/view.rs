//! Plugins as the API shows them: the engine's reports, with their description for clients.
//!
//! Each conversion takes its report apart, so that a field that is added to a report cannot be forgotten here.

use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::plugin_reports as engine;

use super::facts::{Inspection, Limits, Manifest};

/// Declares an enum of plain names as the API has it, with its conversion from the engine's.
macro_rules! names {
    ($(#[$attribute:meta])* enum $name:ident { $($variant:ident),* $(,)? }) => {
        $(#[$attribute])*
        #[derive(Serialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        pub(super) enum $name { $($variant),* }

        impl From<engine::$name> for $name {
            fn from(name: engine::$name) -> Self {
                // Without a `_`: a name that the engine adds does not compile until it stands here.
                match name { $(engine::$name::$variant => Self::$variant),* }
            }
        }
    };
}

names! {
    /// The purpose of a plugin.
    enum Kind { Adapter, Shaper }
}

names! {
    /// The party at fault. Only the plugin's own faults count against it.
    enum Blame { Plugin, Upstream, Host }
}

names! {
    /// The stage at which a revision was refused.
    enum Stage { Read, Verify, Compile, Instantiate, Describe, Grant, Approve, Conform, Activate }
}

names! {
    /// The state of a revision.
    enum RevisionState {
        Staged,
        Verified,
        Compiled,
        Conformant,
        NeedsApproval,
        Active,
        Draining,
        Retained,
        Refused,
        Quarantined,
        Disabled,
    }
}

/// The SHA-256 of a revision. Orders and deliveries keep it as their provenance.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
struct Digest(engine::Digest);

/// One plugin, for operators.
#[derive(Serialize, ToSchema)]
pub(in crate::routes) struct PluginReport {
    /// The file's name without `.wasm`.
    plugin: String,
    /// The state of its newest revision.
    #[serde(flatten)]
    state: PluginState,
    /// The revision that serves.
    #[schema(required)]
    digest: Option<Digest>,
    /// Adapter or shaper.
    #[schema(required)]
    kind: Option<Kind>,
    /// The marketplace or shaper name that it serves.
    #[schema(required)]
    serves: Option<String>,
    /// The name for people.
    #[schema(required)]
    display_name: Option<String>,
    /// The plugin's own version.
    #[schema(required)]
    version: Option<String>,
    /// Its own description.
    #[schema(required)]
    manifest: Option<Manifest>,
    /// The contract's version, imports and exports, read from its names.
    #[schema(required)]
    inspection: Option<Inspection>,
    /// The limits of a call.
    #[schema(required)]
    limits: Option<Limits>,
    /// The text of the grants that it serves with: secrets stand there by reference alone.
    #[schema(required)]
    grants: Option<String>,
    /// The component's size in bytes.
    #[schema(required)]
    size: Option<usize>,
    /// The time at which this process loaded the serving revision, RFC 3339.
    #[schema(required, format = DateTime)]
    loaded_at: Option<String>,
    /// Every known revision, the serving one first.
    revisions: Vec<RevisionReport>,
    /// Ended calls of the serving revision in this process.
    counters: Counters,
    /// Calls that this process keeps back for a while.
    pauses: Pauses,
}

impl From<engine::PluginReport> for PluginReport {
    fn from(report: engine::PluginReport) -> Self {
        let engine::PluginReport {
            plugin,
            state,
            digest,
            kind,
            serves,
            display_name,
            version,
            manifest,
            inspection,
            limits,
            grants,
            size,
            loaded_at,
            revisions,
            counters,
            pauses,
        } = report;
        Self {
            plugin,
            state: state.into(),
            digest: digest.map(Digest),
            kind: kind.map(Kind::from),
            serves,
            display_name,
            version,
            manifest: manifest.map(Manifest::from),
            inspection: inspection.map(Inspection::from),
            limits: limits.map(Limits::from),
            grants,
            size,
            loaded_at: loaded_at.map(|at| at.to_string()),
            revisions: revisions.into_iter().map(RevisionReport::from).collect(),
            counters: counters.into(),
            pauses: pauses.into(),
        }
    }
}

/// The state of a plugin: its newest revision serves, or the reason why not.
#[derive(Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum PluginState {
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
        refusal: PluginRefusal,
    },
    /// The newest revision asks for more than it was granted. An older one may serve on.
    NeedsApproval {
        /// The waiting revision.
        #[schema(required)]
        waiting: Option<Digest>,
        /// The grants it asks for.
        refusal: PluginRefusal,
    },
    /// Nothing serves until an operator acts or a pause ends.
    OutOfService {
        /// Disabled, quarantined, or pausing after too many faults.
        reason: String,
    },
}

impl From<engine::PluginState> for PluginState {
    fn from(state: engine::PluginState) -> Self {
        match state {
            engine::PluginState::Active => Self::Active,
            engine::PluginState::Loading => Self::Loading,
            engine::PluginState::Refused { refused, refusal } => Self::Refused {
                refused: refused.map(Digest),
                refusal: refusal.into(),
            },
            engine::PluginState::NeedsApproval { waiting, refusal } => Self::NeedsApproval {
                waiting: waiting.map(Digest),
                refusal: refusal.into(),
            },
            engine::PluginState::OutOfService { reason } => Self::OutOfService { reason },
        }
    }
}

/// A reason why a revision does not serve, and advice.
#[derive(Serialize, ToSchema)]
struct PluginRefusal {
    /// The stage that stopped it.
    stage: Stage,
    /// The fault found in it.
    cause: String,
    /// The features that this host offers instead.
    offer: String,
    /// Advice for its author or the operator.
    fix: String,
    /// True if it may pass without a change of the plugin. It is then tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    passing: bool,
}

impl From<engine::Refusal> for PluginRefusal {
    fn from(refusal: engine::Refusal) -> Self {
        let engine::Refusal {
            stage,
            cause,
            offer,
            fix,
            passing,
        } = refusal;
        Self {
            stage: stage.into(),
            cause,
            offer,
            fix,
            passing,
        }
    }
}

/// One revision of a plugin.
#[derive(Serialize, ToSchema)]
struct RevisionReport {
    /// Its SHA-256.
    digest: Digest,
    /// Its state.
    state: RevisionState,
    /// The reason for the state, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<engine::RevisionReport> for RevisionReport {
    fn from(report: engine::RevisionReport) -> Self {
        let engine::RevisionReport {
            digest,
            state,
            reason,
        } = report;
        Self {
            digest: Digest(digest),
            state: state.into(),
            reason,
        }
    }
}

/// Open circuits of a plugin in this process. One that is open for everybody is the plugin's state.
#[derive(Serialize, ToSchema)]
struct Pauses {
    /// Organizations on whose inputs the plugin fails.
    organizations: usize,
    /// Accounts at the marketplace for which it fails or answers too late.
    accounts: usize,
    /// Seconds until the marketplace is asked again, if it fails for everybody.
    #[schema(required)]
    upstream_seconds: Option<u64>,
}

impl From<engine::Pauses> for Pauses {
    fn from(pauses: engine::Pauses) -> Self {
        let engine::Pauses {
            organizations,
            accounts,
            upstream_seconds,
        } = pauses;
        Self {
            organizations,
            accounts,
            upstream_seconds,
        }
    }
}

/// Ended calls since this process loaded the revision.
#[derive(Serialize, ToSchema)]
struct Counters {
    /// With an answer.
    answered: u64,
    /// By the plugin's own fault.
    plugin_faults: u64,
    /// By the fault of the marketplace, or of the question.
    upstream_faults: u64,
    /// By this host's fault.
    host_faults: u64,
    /// The newest faults first, at most 20.
    last_faults: Vec<FaultReport>,
}

impl From<engine::Counters> for Counters {
    fn from(counters: engine::Counters) -> Self {
        let engine::Counters {
            answered,
            plugin_faults,
            upstream_faults,
            host_faults,
            last_faults,
        } = counters;
        Self {
            answered,
            plugin_faults,
            upstream_faults,
            host_faults,
            last_faults: last_faults.into_iter().map(FaultReport::from).collect(),
        }
    }
}

/// One fault, for operators.
#[derive(Serialize, ToSchema)]
struct FaultReport {
    /// The time, RFC 3339.
    #[schema(format = DateTime)]
    at: String,
    /// The party at fault.
    blame: Blame,
    /// The fault, for people.
    fault: String,
}

impl From<engine::FaultReport> for FaultReport {
    fn from(report: engine::FaultReport) -> Self {
        let engine::FaultReport { at, blame, fault } = report;
        Self {
            at: at.to_string(),
            blame: blame.into(),
            fault,
        }
    }
}
