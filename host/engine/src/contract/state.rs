//! The states of a revision and the steps between them.

use std::fmt;

use serde::{Deserialize, Serialize};
use wharf_domain::Time;

use super::digest::Digest;

/// The state of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionState {
    /// Its bytes are here.
    Staged,
    /// It is a component of a known world and version, and imports only what plugins get.
    Verified,
    /// It was compiled, tried and described itself.
    Compiled,
    /// It passed every contract check and every vector.
    Conformant,
    /// It asks for more than it was granted.
    NeedsApproval,
    /// It serves.
    Active,
    /// Another took its place, and its last calls run.
    Draining,
    /// It is kept for rolling back.
    Retained,
    /// It does not serve, for a reason.
    Refused,
    /// It failed too often, or an operator quarantined it.
    Quarantined,
    /// Its plugin was disabled.
    Disabled,
}

impl fmt::Display for RevisionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Spelt as serde spells them: the audit stores these words, and reports show serde's beside them.
        f.write_str(match self {
            Self::Staged => "staged",
            Self::Verified => "verified",
            Self::Compiled => "compiled",
            Self::Conformant => "conformant",
            Self::NeedsApproval => "needs-approval",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Retained => "retained",
            Self::Refused => "refused",
            Self::Quarantined => "quarantined",
            Self::Disabled => "disabled",
        })
    }
}

/// The reason of the step by which the revision that served before serves again.
pub const ROLLED_BACK: &str = "rolled back";

/// One step of a revision from state to state, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The time of the step.
    pub at: Time,
    /// The plugin's name.
    pub plugin: String,
    /// The revision; `None` if the file could not even be read.
    pub digest: Option<Digest>,
    /// The state before; `None` if the revision is new.
    pub from: Option<RevisionState>,
    /// The state after.
    pub to: RevisionState,
    /// The reason, for people.
    pub reason: String,
    /// The party that acted: `folder`, `engine`, or the caller's name.
    pub actor: String,
}
