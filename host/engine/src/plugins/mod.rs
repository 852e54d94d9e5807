//! Plugins and their revisions: how they come, serve, fail and go.
//!
//! [`store`] and [`record`] are what all hosts share. [`registry`] is what this host serves; [`offer`] and
//! [`operations`] change it, [`watch`] follows the folders, [`deploy`] judges their files. This room uses the sandbox and the contract.

pub(crate) mod breaker;
pub(crate) mod cache;
mod change;
mod circuit;
pub(crate) mod compile;
pub(crate) mod conformance;
mod deploy;
mod files;
pub(crate) mod gate;
pub(crate) mod load;
mod loading;
mod offer;
mod operations;
mod places;
pub(crate) mod record;
pub(crate) mod registry;
mod reports;
pub(crate) mod revision;
pub(crate) mod snapshot;
mod step;
pub(crate) mod store;
pub(crate) mod watch;
