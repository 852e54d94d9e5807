//! The promises of the crate, on both backends, and what becomes of them when Redis fails.

mod conformance;
mod faults;
mod server;
