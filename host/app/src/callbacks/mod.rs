//! Callbacks: events become deliveries, deliveries are sent to receivers, and what came of it is settled.
//!
//! 1. An event stands in the outbox (`callback_outbox`), committed with its cause. The cause rings.
//! 2. **Fan out** (`fan_out.rs`): a batch of events is claimed by fence and lease, shaped once per shaper that their
//!    endpoints want (`shape.rs`), and stored as messages and one delivery per endpoint in one transaction. A shaper
//!    that is out of service holds up only the endpoints that want it: the event is fanned out again for them.
//! 3. **Claim** (`claim.rs`): due deliveries are claimed page by page of endpoints. `fair_share.rs` says how many of
//!    each: one each, round and round, so that a dead receiver with 100,000 due deliveries keeps nobody else waiting.
//! 4. **Send** (`send.rs`): signed and posted on threads of their own (`threads.rs`), with nothing held but a lease,
//!    which the worker renews (`in_flight.rs`). The status line decides (`answer.rs`).
//! 5. **Settle** (`settle.rs`): what has gathered is written in one transaction behind the fence: attempts, new states,
//!    the events' sums. A write that names an old fence touches no row.
//!    What the host itself could not send (`host_fault.rs`), or could not hear an answer to because its threads were busy
//!    (`lateness.rs`), is given back instead (`give_back.rs`): it is no attempt.
//! 6. **Health** (`health.rs`), in the same transaction: endpoints that only fail are paused, then disabled.
//!
//! [`CallbackWorker`] does all of it and never waits for a receiver. [`CallbackScheduler`] rings for what is due and
//! purges events that were finished long ago. A crash at any point leaves a lease that ends; then another worker
//! repeats the step with the same bytes.

mod answer;
mod claim;
mod fair_share;
mod fan_out;
mod give_back;
mod health;
mod host_fault;
mod in_flight;
mod lateness;
mod retention;
mod scheduler;
mod send;
mod settle;
mod shape;
mod threads;
mod worker;

pub use self::{
    scheduler::{CallbackScheduler, Swept},
    worker::{CallbackStep, CallbackWorker},
};
pub(crate) use self::{send::Sender, shape::Unshaped};

/// Rows of one claim or one settling: beyond it a transaction grows longer and not more efficient.
const MAX_BATCH: usize = 64;
