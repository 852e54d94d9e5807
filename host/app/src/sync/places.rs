//! The places of a sync worker. A job has one while it runs, but not for long: then the next job begins beside it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wharf_domain::{Parties, Shares};

/// The places of one worker. They are shared in each process alone: with several processes, a marketplace has its share
/// of each of them.
pub(super) struct Places {
    shares: Mutex<Shares>,
    freed: Notify,
}

impl Places {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            shares: Mutex::new(Shares::new(places)),
            freed: Notify::new(),
        })
    }

    pub(super) fn free(&self) -> usize {
        self.shares().free()
    }

    /// Chooses who gets the free places.
    pub(super) fn choose(&self, waiting: &[Parties]) -> Vec<usize> {
        self.shares().choose(waiting)
    }

    pub(super) fn take(self: &Arc<Self>, parties: Parties) -> Place {
        self.shares().begin(&parties);
        Place {
            places: self.clone(),
            parties,
            lingers: AtomicBool::new(false),
            time_is_over: CancellationToken::new(),
        }
    }

    /// Waits until a place may have come free.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a job, given back when it is dropped at the latest.
pub(super) struct Place {
    places: Arc<Places>,
    parties: Parties,
    lingers: AtomicBool,
    time_is_over: CancellationToken,
}

impl Place {
    /// Gives the place back while the job goes on. Where too many do so already, the job keeps it.
    pub(super) fn give_back(&self) {
        // First, and in any case: the run begins with no further receipt even if the job keeps its place.
        self.time_is_over.cancel();
        if self.places.shares().linger() {
            // Relaxed: only the drop reads it, and by then nobody else has the place.
            self.lingers.store(true, Ordering::Relaxed);
            self.places.freed.notify_one();
        }
    }

    /// Tells if the job's time is over.
    pub(super) fn is_given_back(&self) -> bool {
        self.time_is_over.is_cancelled()
    }

    /// Waits until the job's time is over.
    pub(super) async fn given_back(&self) {
        self.time_is_over.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let lingers = self.lingers.load(Ordering::Relaxed);
        // Before the news, so that whoever hears it finds the place free.
        self.places.shares().end(&self.parties, lingers);
        // Kept for the worker if it is not waiting at this moment: `notify_one` stores it.
        self.places.freed.notify_one();
    }
}
