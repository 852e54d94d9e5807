//! The contract of the ledger, run on every backend: what one database does, the other does too.
#![allow(clippy::disallowed_methods, reason = "test code")]

mod api_keys;
mod callbacks;
mod care;
mod connections;
mod endpoints;
mod exports;
mod fixture;
mod front_door;
mod idempotency;
mod jobs;
mod keys;
mod logs;
mod model;
mod moving;
mod operator;
mod operator_plans;
mod orders;
mod plans;
mod receipts;
mod recovery;
mod redrive;
mod retention;
mod schema;
mod shares;
mod stores;
mod takeover;
mod tokens;
mod transitions;
