//! The sandbox: one call of one component, in a fresh instance with limits on everything that it uses.
//!
//! This room knows the contract and nothing of revisions. It is used by the plugins' room and by the engine.

mod call;
pub(crate) mod callable;
pub(crate) mod guest;
pub(crate) mod limiter;
pub(crate) mod log_rate;
pub(crate) mod network;
pub(crate) mod outbound;
pub(crate) mod pace;
mod processor;
pub(crate) mod recording;
pub(crate) mod runtime;
pub(crate) mod script;
mod stderr;
pub(crate) mod threads;

pub(crate) use call::Judged;
