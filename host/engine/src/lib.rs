//! The engine: compiles, checks, runs and swaps plugins.
//!
//! It reads WebAssembly components from a folder, checks them before and after compiling, and runs each call in a fresh
//! instance with limits on time, memory, stack, output and log. A new or changed file is swapped in by one pointer
//! exchange; a call keeps the revision that it began with.
//!
//! A call begins on its caller's thread and is moved to the engine's own if it is not over within a tick.
//!
//! It promises that nothing a component does takes the host, another plugin or another call down with it. Every failed
//! call is a typed [`Fault`] that names the party at fault, and a guest's answers are checked against the contract
//! before anybody sees them. Guests have no files, sockets or environment; shapers have no clock and no randomness
//! either.
//!
//! It leaves out databases, the API, and the meaning of an answer for an order.
//!
//! Its rooms, each using only those before it: `contract` (what is said and checked), `sandbox` (one call), `plugins`
//! (revisions). [`Engine`] and the author's tools stand above them.

mod author;
mod contract;
mod engine;
mod plugins;
mod sandbox;

pub use author::{AskedOnce, BenchReport, CheckReport, Spread, pack};
pub use contract::convert::{Message, ValidateRequest};
pub use contract::digest::Digest;
pub use contract::fault::{Blame, Called, EngineError, Fault, OperationError};
pub use contract::grants::{GrantedLimits, Grants};
pub use contract::inspect::{CONTRACT_VERSIONS, Inspection, Kind, inspect};
pub use contract::limits::{HttpLimits, Limits};
pub use contract::manifest::{AdapterManifest, Manifest, ShaperManifest};
pub use contract::refusal::{Refusal, Stage};
pub use contract::report::{
    Counters, FaultReport, Pauses, PluginReport, PluginState, RevisionReport,
};
pub use contract::secret::{Credential, Secret, StoreSecret};
pub use contract::settings::{Compiler, DEFAULT_COMPILE_MEMORY_BYTES, EngineSettings};
pub use contract::state::{ROLLED_BACK, RevisionState, Transition};
pub use engine::Engine;
pub use plugins::compile::{CompileError, CompileLimits, compile_plugin};
pub use plugins::conformance::{Conformance, ContractCheck, ContractCheckReport, Failure};
pub use sandbox::recording::{RecordedAnswer, RecordedExchange};
pub use wharf_egress::{Resolver, SystemResolver};
pub use wharf_pack::{PackFacts, vectors};
