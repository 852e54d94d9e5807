//! Gates: bounds on the calls in flight, and on those that wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::contract::fault::Fault;

/// Calls of one plugin that run at a time.
const MAX_IN_FLIGHT: usize = 16;
/// Calls of one plugin that wait for a slot.
const MAX_WAITING: usize = 64;
/// Time that they wait before they are refused as overload.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// A bound on calls in flight. There is one per plugin, kept when its revision changes, and one for the whole host.
pub(crate) struct Gate {
    slots: Semaphore,
    waiting: AtomicUsize,
    max_waiting: usize,
}

impl Gate {
    /// Makes the gate of one plugin: at most half of the host, so that one plugin at its worst cannot starve the others.
    pub(crate) fn of_plugin(max_in_flight: usize) -> Self {
        let slots = MAX_IN_FLIGHT.min(max_in_flight / 2).max(1);
        Self {
            slots: Semaphore::new(slots),
            waiting: AtomicUsize::new(0),
            max_waiting: MAX_WAITING,
        }
    }

    /// Makes the gate of the host. A call that waits here has passed its plugin's gate, which bounds their number.
    pub(crate) fn of_host(max_in_flight: usize) -> Self {
        Self {
            slots: Semaphore::new(max_in_flight),
            waiting: AtomicUsize::new(0),
            // Bounded by the plugins' gates already.
            max_waiting: usize::MAX,
        }
    }

    /// Waits for a slot, but neither long nor behind many.
    pub(crate) async fn enter(&self) -> Result<SemaphorePermit<'_>, Fault> {
        // The common case takes no place in the queue and starts no timer.
        if let Ok(permit) = self.slots.try_acquire() {
            return Ok(permit);
        }
        let _place = Place::take(&self.waiting, self.max_waiting).ok_or(Fault::Overloaded)?;
        match tokio::time::timeout(MAX_WAIT, self.slots.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Fault::Overloaded),
        }
    }
}

/// A place in the queue, given back when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let place = Self(waiting);
        // Dropping the place takes the count back if it was too many.
        (waiting.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_short_and_bounded() {
        let gate = Gate {
            slots: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            max_waiting: 1,
        };
        let held = gate.enter().await.expect("the only slot");
        let started = tokio::time::Instant::now();
        let (first, second) = tokio::join!(gate.enter(), gate.enter());
        assert_eq!(first.err(), Some(Fault::Overloaded), "waited in vain");
        assert_eq!(second.err(), Some(Fault::Overloaded), "nowhere to wait");
        assert_eq!(started.elapsed().as_millis(), 250);
        drop(held);
        assert!(gate.enter().await.is_ok(), "places and slots come back");
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_plugin_gets_at_most_half_of_the_host() {
        assert_eq!(Gate::of_plugin(64).slots.available_permits(), 16);
        assert_eq!(Gate::of_plugin(8).slots.available_permits(), 4);
        assert_eq!(Gate::of_plugin(1).slots.available_permits(), 1);
    }
}
