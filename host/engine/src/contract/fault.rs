//! Faults of calls, and errors of operations and of the engine.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wharf_domain::Answer;

use super::{digest::Digest, refusal::Refusal};

/// The outcome of a call, with the revision that it came from.
#[derive(Clone, Debug)]
pub struct Called<T> {
    /// The plugin that serves the name; `None` if none does.
    pub plugin: Option<Arc<str>>,
    /// The revision that was asked; `None` if none was.
    pub digest: Option<Digest>,
    /// Its answer or its fault.
    pub result: Result<T, Fault>,
}

/// A call of a plugin without an answer. `Display` is for people and holds no internals of the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No plugin serves the name.
    #[error("no plugin serves this name")]
    NotFound,
    /// The plugin is out of service: disabled, quarantined, or pausing after too many faults.
    #[error("the plugin is out of service: {0}")]
    OutOfService(String),
    /// The marketplace failed too often, for this account or for everybody; it is asked again after this long.
    #[error("the marketplace keeps failing; it is asked again in {} s", .0.as_secs().max(1))]
    UpstreamPaused(Duration),
    /// Too many calls are waiting or running, or all guests together have the memory that they may have; try again.
    #[error("too many calls at once")]
    Overloaded,
    /// The input is larger than the plugin's limit.
    #[error("the input of {bytes} bytes is over the plugin's limit of {limit}")]
    InputTooLarge {
        /// The size of the input.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The guest refused, with its reason.
    #[error("the plugin refused: {0}")]
    Refused(String),
    /// The guest ended itself: an unreachable instruction, a panic, an exit, an illegal access.
    #[error("the plugin trapped: {0}")]
    Trapped(String),
    /// It used up its time on the processor.
    #[error("the plugin used up its processor time")]
    OutOfCpu,
    /// It did not end in time.
    #[error("the plugin did not answer in time")]
    OutOfTime,
    /// The marketplace that it asked over HTTP did not answer in time.
    #[error("the plugin waited too long for an answer")]
    UpstreamTooSlow,
    /// It wanted more memory than it may have, and failed.
    #[error("the plugin ran out of memory")]
    OutOfMemory,
    /// It recursed too deeply.
    #[error("the plugin ran out of stack")]
    OutOfStack,
    /// It handed out more than it may, in an answer or in a call of the host.
    #[error("the plugin's output is over its limit")]
    OutputTooLarge,
    /// It answered something that the contract forbids.
    #[error("the plugin broke the contract: {0}")]
    ContractBroken(String),
    /// The host could not run it.
    #[error("the host could not run the plugin: {0}")]
    Host(String),
}

/// The party at fault. Only the plugin's own faults count against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The component's own.
    Plugin,
    /// The marketplace, or the question.
    Upstream,
    /// This host's.
    Host,
}

impl Fault {
    /// Makes the fault of an answer that the contract forbids.
    pub(crate) fn broken(what: impl Into<String>) -> Self {
        Self::ContractBroken(what.into())
    }

    /// Returns the party at fault.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::NotFound
            | Self::OutOfService(_)
            | Self::Overloaded
            | Self::InputTooLarge { .. }
            | Self::Host(_) => Blame::Host,
            // Waiting for a slow marketplace is no fault of the plugin's; being slow by itself is (`OutOfTime`).
            Self::Refused(_) | Self::UpstreamTooSlow | Self::UpstreamPaused(_) => Blame::Upstream,
            Self::Trapped(_)
            | Self::OutOfCpu
            | Self::OutOfTime
            | Self::OutOfMemory
            | Self::OutOfStack
            | Self::OutputTooLarge
            | Self::ContractBroken(_) => Blame::Plugin,
        }
    }

    /// Tells if nobody was asked: the plugin was not called.
    pub const fn is_unasked(&self) -> bool {
        matches!(
            self,
            Self::NotFound | Self::OutOfService(_) | Self::UpstreamPaused(_) | Self::Overloaded
        )
    }

    /// Returns the answer that an import stores. A call that never reached the plugin is deferred and costs no attempt.
    pub fn into_answer(self) -> Answer {
        let reason = self.to_string();
        match self {
            Self::UpstreamPaused(wait) => Answer::Deferred { reason, wait },
            Self::NotFound | Self::OutOfService(_) | Self::Overloaded | Self::Host(_) => {
                // Zero asks for no wait of its own: the domain has a least one for everything deferred.
                Answer::Deferred {
                    reason,
                    wait: Duration::ZERO,
                }
            }
            fault if fault.blame() == Blame::Plugin => Answer::Faulted(reason),
            // Costs an attempt, so that it ends: the marketplace was asked, or the input is too large and stays so.
            _ => Answer::Unavailable(reason),
        }
    }
}

/// A failed operation of an operator.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// There is no such plugin.
    #[error("there is no such plugin")]
    NoSuchPlugin,
    /// The plugin has no such revision, or none to go back to.
    #[error("there is no such revision")]
    NoSuchRevision,
    /// The revision is quarantined; release it first.
    #[error("the revision is quarantined: {0}")]
    Quarantined(String),
    /// The revision may not serve.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state folder could not be read or written; nothing was changed.
    #[error("the plugin's state could not be changed: {0}")]
    State(#[from] std::io::Error),
}

/// A failed start of the engine. A plugin is never the reason.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The sandbox's settings do not work on this machine.
    #[error("the sandbox could not be built: {0}")]
    Sandbox(#[source] wasmtime::Error),
    /// The guests' threads could not be started.
    #[error("the guests' threads could not be started: {0}")]
    Threads(#[source] std::io::Error),
    /// The state folder cannot be written.
    #[error("the state folder {path} cannot be used: {source}")]
    State {
        /// The folder.
        path: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}
