//! The sync engine asks marketplaces again about receipts that are due.
//!
//! [`SyncScheduler`] walks the stores page by page, queues a job for each store that has due logs, and rings after the
//! commit. News may be lost, so it also rings again every second for jobs that are due and not taken.
//!
//! [`SyncWorker`] claims jobs and works on several at a time. A job goes: claim (fence + 1, lease) -> lock ->
//! `sync.started` -> chunks -> `sync.completed` or `sync.failed` -> idle. A chunk asks about due logs with no
//! transaction open, then writes logs, counters, status and the run's sums in one transaction behind the fence. The
//! sums stand in the ledger: a run that a crash interrupted continues after its last commit, and its end is told once.

mod chunk;
mod held;
mod job;
mod places;
mod resting;
mod run;
mod scheduler;
mod worker;

use wharf_domain::StoreId;
use wharf_queue::Queue;

pub use self::{
    scheduler::{SyncPage, SyncScheduler},
    worker::{SyncStep, SyncWorker},
};
use crate::{App, failpoint};

/// The name of a store's job on the queue.
fn job_id(store: StoreId) -> String {
    format!("store:{store}")
}

impl App {
    /// Rings for a store's job. Call it after the commit that queued the job.
    pub(crate) fn ring_for(&self, store: StoreId) {
        failpoint::pass("ring.before");
        self.0.doorbell.ring(Queue::SyncStore, &job_id(store));
        failpoint::pass("ring.after");
    }
}
