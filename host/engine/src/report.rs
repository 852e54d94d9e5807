use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wharf_domain::Time;

use crate::{
    AdapterManifest, Blame, Digest, Inspection, Kind, Limits, RevisionState, ShaperManifest,
};

/// How far a revision came before it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Reading the file.
    Read,
    /// Reading what it is and what it asks for, before anything is compiled.
    Verify,
    /// Compiling it.
    Compile,
    /// Making a first instance on trial.
    Instantiate,
    /// Asking what it serves.
    Describe,
    /// Reading what the operator granted.
    Grant,
    /// Comparing what it asks for with what it was granted.
    Approve,
    /// Trying it against the contract's laws and its own vectors.
    Conform,
    /// Letting it serve.
    Activate,
}

/// Why a revision does not serve, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PluginRefusal)]
pub struct Refusal {
    /// Where it was stopped.
    pub stage: Stage,
    /// What is wrong with it.
    pub cause: String,
    /// What this host offers instead.
    pub offer: String,
    /// How its author or the operator mends it.
    pub fix: String,
    /// Whether it may pass without a change of the plugin: it is then tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passing: bool,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl Refusal {
    pub(crate) fn new(stage: Stage, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            stage,
            cause: cause.into(),
            offer: String::new(),
            fix: fix.into(),
            passing: false,
        }
    }

    pub(crate) fn offering(self, offer: impl Into<String>) -> Self {
        Self {
            offer: offer.into(),
            ..self
        }
    }

    pub(crate) fn passing(self) -> Self {
        Self {
            passing: true,
            ..self
        }
    }

    /// The state that it leaves a revision in.
    pub fn state(&self) -> RevisionState {
        if self.stage == Stage::Approve {
            RevisionState::NeedsApproval
        } else {
            RevisionState::Refused
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state() {
            RevisionState::NeedsApproval => write!(f, "needs approval: {}", self.cause)?,
            _ => write!(f, "refused at {}: {}", self.stage, self.cause)?,
        }
        if !self.offer.is_empty() {
            write!(f, "; this host offers {}", self.offer)?;
        }
        write!(f, "; to fix it: {}", self.fix)
    }
}

impl std::error::Error for Refusal {}

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Manifest {
    /// Of a marketplace adapter.
    Adapter(AdapterManifest),
    /// Of a payload shaper.
    Shaper(ShaperManifest),
}

impl Manifest {
    /// Which kind of plugin says it.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Adapter(_) => Kind::Adapter,
            Self::Shaper(_) => Kind::Shaper,
        }
    }

    /// The marketplace or shaper name that it serves.
    pub fn serves(&self) -> &str {
        match self {
            Self::Adapter(manifest) => &manifest.marketplace,
            Self::Shaper(manifest) => &manifest.name,
        }
    }

    /// The name for people.
    pub fn display_name(&self) -> &str {
        match self {
            Self::Adapter(manifest) => &manifest.display_name,
            Self::Shaper(manifest) => &manifest.display_name,
        }
    }

    /// The plugin's own version.
    pub fn version(&self) -> &str {
        match self {
            Self::Adapter(manifest) => &manifest.version,
            Self::Shaper(manifest) => &manifest.version,
        }
    }
}

/// Whether a plugin serves, and whether its newest revision does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum PluginState {
    /// The newest revision serves.
    Active,
    /// The newest revision does not. An older one may serve on: `digest` of the report says which.
    Refused {
        /// The refused revision, if it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<Digest>,
        /// Why.
        refusal: Refusal,
    },
    /// The newest revision asks for more than it was granted. An older one may serve on.
    NeedsApproval {
        /// The waiting revision.
        #[schema(required)]
        waiting: Option<Digest>,
        /// What it asks for.
        refusal: Refusal,
    },
    /// Nothing serves until somebody acts or the time of a pause is over.
    OutOfService {
        /// Switched off, quarantined, or pausing after too many faults.
        reason: String,
    },
}

impl fmt::Display for PluginState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("active"),
            Self::Refused { refusal, .. } | Self::NeedsApproval { refusal, .. } => refusal.fmt(f),
            Self::OutOfService { reason } => f.write_str(reason),
        }
    }
}

/// One plugin, for operators.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PluginReport {
    /// The file's name without `.wasm`.
    pub plugin: String,
    /// Whether the newest revision serves.
    #[serde(flatten)]
    pub state: PluginState,
    /// The revision that serves.
    #[schema(required)]
    pub digest: Option<Digest>,
    /// Adapter or shaper.
    #[schema(required)]
    pub kind: Option<Kind>,
    /// The marketplace or shaper name that it serves.
    #[schema(required)]
    pub serves: Option<String>,
    /// The name for people.
    #[schema(required)]
    pub display_name: Option<String>,
    /// The plugin's own version.
    #[schema(required)]
    pub version: Option<String>,
    /// What it says about itself.
    #[schema(required)]
    pub manifest: Option<Manifest>,
    /// What its names say: the contract's version, imports and exports.
    #[schema(required)]
    pub inspection: Option<Inspection>,
    /// What a call may use.
    #[schema(required)]
    pub limits: Option<Limits>,
    /// The text of the grants that it serves with: secrets stand there by reference alone.
    #[schema(required)]
    pub grants: Option<String>,
    /// The component's size in bytes.
    #[schema(required)]
    pub size: Option<usize>,
    /// When the serving revision was loaded here, RFC 3339.
    #[serde(serialize_with = "maybe_rfc3339")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub loaded_at: Option<Time>,
    /// Every revision that is known, the serving one first.
    pub revisions: Vec<RevisionReport>,
    /// How calls of the serving revision ended in this process.
    pub counters: Counters,
}

/// One revision of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RevisionReport {
    /// Its name.
    pub digest: Digest,
    /// Where it stands.
    pub state: RevisionState,
    /// Why, if there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How calls ended since this process loaded the revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counters {
    /// With an answer.
    pub answered: u64,
    /// By the plugin's own fault.
    pub plugin_faults: u64,
    /// By the fault of whom it asked, or of what it was asked.
    pub upstream_faults: u64,
    /// By this host's.
    pub host_faults: u64,
    /// The newest faults first, at most 20.
    pub last_faults: Vec<FaultReport>,
}

/// One fault, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FaultReport {
    /// When, RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// Whose fault.
    pub blame: Blame,
    /// What, for people.
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
