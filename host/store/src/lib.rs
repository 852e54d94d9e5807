//! The ledger: stores, logs, jobs, events and deliveries, on PostgreSQL or SQLite behind one SQL text.
//!
//! Every operation is an ordinary async function on `&mut Conn` with one SQL text and one body; the only matches on
//! the backend stand in `db.rs` and in the named pairs of `dialect.rs`. Rules (what a log becomes, whether to retry)
//! live in `wharf-domain`; this crate only keeps what was decided, atomically.
//!
//! Promises: ids, times and random bytes are parameters, never made here. A function that changes leased work checks
//! the fence in the same statement or transaction. Left out: anything that talks to the network.

mod db;
mod dialect;
mod error;
mod rows;
mod seal;
mod values;

pub mod deliveries;
pub mod endpoints;
pub mod fill;
pub mod history;
pub mod jobs;
pub mod logs;
pub mod outbox;
pub mod queues;
pub mod resend;
pub mod stores;
pub mod transitions;

pub use db::{Backend, Conn, Ledger, LedgerSettings, PoolFigures, Tx};
pub use error::StoreError;
pub use seal::{EncryptionKey, Sealed};

/// Every statement of this crate with its name, so that a test can prepare each on both databases.
pub fn statements() -> impl Iterator<Item = (&'static str, dialect::Sql)> {
    let modules: [&[(&'static str, dialect::Sql)]; 11] = [
        stores::ALL,
        logs::ALL,
        jobs::ALL,
        endpoints::ALL,
        outbox::ALL,
        deliveries::ALL,
        history::ALL,
        resend::ALL,
        queues::ALL,
        fill::ALL,
        transitions::ALL,
    ];
    modules.into_iter().flatten().copied()
}
pub use dialect::Sql;
