//! The ledger: stores, logs, jobs, events and deliveries, on PostgreSQL or SQLite behind one SQL text.
//!
//! Every operation is an ordinary async function on `&mut Conn` with one SQL text and one body. The only matches on the
//! backend stand in `ledger`, `conn` and `query`, and in the named pairs of `dialect`. Rules (what a log becomes,
//! whether to retry) live in `wharf-domain`; this crate only keeps what was decided, atomically.
//!
//! Promises: ids, times and random bytes are parameters, never made here. A function that changes leased work checks
//! the fence in the same statement or transaction. Left out: anything that talks to the network.

// The derive alone: sqlx's own feature `derive` compiles both drivers for the macro as well.
#[macro_use]
extern crate sqlx_macros;

mod clock;
mod conn;
mod connect;
mod dialect;
mod error;
mod key_ring;
mod large_indexes;
mod ledger;
mod migrations;
mod pieces;
mod pool;
mod query;
mod readiness;
mod registration;
mod rows;
mod schema;
mod seal;
mod tables;
mod values;

pub mod api_keys;
pub mod backup;
pub mod budgets;
pub mod canary;
pub mod copy;
pub mod deliveries;
pub mod endpoints;
pub mod export;
pub mod history;
pub mod holds;
pub mod idempotency;
pub mod jobs;
pub mod letters;
pub mod logs;
pub mod marketplaces;
pub mod outbox;
pub mod queues;
pub mod rebase;
pub mod reseal;
pub mod resend;
pub mod resting;
pub mod stores;
pub mod transitions;

pub use canary::KeyError;
pub use conn::{Conn, Tx};
pub use dialect::Sql;
pub use error::StoreError;
pub use key_ring::KeyRing;
pub use ledger::{Backend, Ledger, LedgerSettings, PoolFigures};
pub use schema::SchemaError;
pub use seal::{EncryptionKey, KeyId, Sealed};
pub use tables::{PURGED, check_register};

/// Every statement of this crate with its name, so that a test can prepare each on both databases.
pub fn statements() -> impl Iterator<Item = (&'static str, Sql)> {
    let modules: [&[(&'static str, Sql)]; 19] = [
        api_keys::ALL,
        holds::ALL,
        registration::ALL,
        marketplaces::ALL,
        jobs::ALL,
        history::ALL,
        idempotency::ALL,
        letters::ALL,
        resend::ALL,
        resting::ALL,
        queues::ALL,
        transitions::ALL,
        budgets::ALL,
        rebase::ALL,
        readiness::ALL,
        canary::ALL,
        reseal::ALL,
        schema::ALL,
        copy::ALL,
    ];
    let modules = modules.into_iter().chain(endpoints::MODULES);
    let modules = modules.chain(stores::MODULES);
    let modules = modules.chain(logs::MODULES).chain(outbox::MODULES);
    modules.chain(deliveries::MODULES).flatten().copied()
}
