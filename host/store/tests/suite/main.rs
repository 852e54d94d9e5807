//! The contract of the ledger, run on every backend: what one database does, the other does too.
#![allow(clippy::disallowed_methods, reason = "test code")]

mod callbacks;
mod fixture;
mod jobs;
mod logs;
mod model;
mod plans;
mod retention;
mod stores;
mod transitions;
mod webhook_care;
