//! The refusal of a revision: the stage, the cause and the way to fix it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::state::RevisionState;

/// The stage at which a revision was refused, in the order of its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// Running the contract checks and its own vectors.
    Conform,
    /// Letting it serve.
    Activate,
}

/// A reason why a revision does not serve, and advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The stage that stopped it.
    pub stage: Stage,
    /// The fault found in it.
    pub cause: String,
    /// The features that this host offers instead.
    pub offer: String,
    /// Advice for its author or the operator.
    pub fix: String,
    /// True if it may pass without a change of the plugin. It is then tried again.
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

    /// Returns the state that it leaves a revision in.
    pub fn state(&self) -> RevisionState {
        // No fault of the plugin's: it serves once an operator grants what it asks for.
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
