//! The threads that webhooks are sent on.
//!
//! Receivers are strangers: what reading their answers costs is paid by these threads, not by those that answer the API.

use std::{io, num::NonZero, sync::Arc, time::Instant};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinError,
};
use tokio_util::task::AbortOnDropHandle;

use super::lateness::{Lateness, PERIOD};

/// Behind the threads that answer the API, by the system's measure: a processor that both want goes to them in the
/// proportion of three to one. Webhooks can wait, and one organization can have any number of them to send.
const NICENESS: i32 = 5;

/// A runtime of its own. Dropping it ends its tasks without waiting, wherever it is dropped.
pub(super) struct Threads {
    runtime: Option<Runtime>,
    lateness: Arc<Lateness>,
}

impl Threads {
    /// One thread per processor, and never one alone, so that one busy task does not hold up all the others.
    pub(super) fn start() -> io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let runtime = Builder::new_multi_thread()
            // Never one alone: a busy task would hold up all others.
            .worker_threads(processors.max(2))
            .thread_name("wharf-send")
            // On Linux of this thread alone. Where it is not allowed, it is not needed for being right.
            .on_thread_start(|| {
                let _ = rustix::process::nice(NICENESS);
            })
            .enable_all()
            .build()?;
        let lateness = Arc::new(Lateness::new(Instant::now()));
        runtime.spawn(tick(lateness.clone()));
        Ok(Self {
            runtime: Some(runtime),
            lateness,
        })
    }

    /// The lateness of these threads.
    pub(super) fn lateness(&self) -> Arc<Lateness> {
        self.lateness.clone()
    }

    /// Runs a future there. It ends early if the task is dropped.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T, JoinError>> {
        let runtime = self
            .runtime
            .as_ref()
            .expect("the runtime is there until it is dropped");
        AbortOnDropHandle::new(runtime.spawn(work))
    }
}

async fn tick(lateness: Arc<Lateness>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        lateness.tick(Instant::now());
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait for the tasks, and panics inside a runtime.
            runtime.shutdown_background();
        }
    }
}
