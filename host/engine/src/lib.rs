//! The sandbox: compiles, checks, runs and swaps plugins.
//!
//! What it does: reads WebAssembly components from a folder, checks them before and after compiling, and runs each call
//! in a fresh instance with limits on time, memory, stack, output and log. A new or changed file is swapped in by one
//! pointer exchange; a call keeps the revision that it began with.
//!
//! What it promises: nothing that a component does takes the host, another plugin or another call down with it. Every
//! failed call is a typed [`Fault`] that says whose fault it is, and what a guest answers is checked against the contract
//! before anybody sees it. Guests have no files, sockets or environment; shapers have no clock and no randomness either.
//!
//! What it leaves out: databases, the API, and what an answer means for an order.

#![allow(
    clippy::disallowed_methods,
    reason = "files are read and written on threads of its own; its HTTP clients resolve names by the address rule"
)]

mod author;
mod bindings;
mod breaker;
mod cache;
mod call;
mod conformance;
mod convert;
mod digest;
mod egress;
mod engine;
mod fault;
mod gate;
mod grants;
mod guest;
mod inspect;
mod life;
mod limiter;
mod load;
mod operations;
mod outbound;
mod processor;
mod registry;
mod report;
mod revision;
mod sandbox;
mod settings;
mod shelf;
mod stderr;
mod watch;

pub use author::{BenchReport, CheckReport, Spread, pack};
pub use conformance::{Conformance, Failure, Law, LawReport};
pub use convert::{AdapterManifest, Message, ShaperManifest, ValidateRequest};
pub use digest::Digest;
pub use engine::Engine;
pub use fault::{Blame, Called, EngineError, Fault, OperationError};
pub use grants::{Credential, GrantedLimits, Grants, Secret, StoreSecret};
pub use inspect::{CONTRACT_VERSIONS, Inspection, Kind, inspect};
pub use life::{RevisionState, Transition};
pub use report::{
    Counters, FaultReport, Manifest, PluginReport, PluginState, Refusal, RevisionReport, Stage,
};
pub use settings::{EngineSettings, HttpLimits, Limits};
pub use wharf_egress::{Resolver, SystemResolver};
pub use wharf_pack::{PackFacts, vectors};
