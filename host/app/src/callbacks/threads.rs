//! The threads that webhooks are sent on.
//!
//! Receivers are strangers. One that says `100 Continue` without end keeps its connection's task busy for as long as
//! the HTTP library finds something to read, and with it a thread: better one of these than one that answers the API.

use std::{io, num::NonZero};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinError,
};
use tokio_util::task::AbortOnDropHandle;

/// A runtime of its own. Dropping it ends its tasks without waiting, wherever it is dropped.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// One thread per processor, and never one alone, so that one busy task does not hold up all the others.
    pub(super) fn start() -> io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let runtime = Builder::new_multi_thread()
            // Never one alone: a busy task would hold up all others.
            .worker_threads(processors.max(2))
            .thread_name("wharf-send")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a future there. It ends early if the task is dropped.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T, JoinError>> {
        let runtime = self
            .0
            .as_ref()
            .expect("the runtime is there until it is dropped");
        AbortOnDropHandle::new(runtime.spawn(work))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A plain drop would wait for the tasks, and panics inside a runtime.
            runtime.shutdown_background();
        }
    }
}
