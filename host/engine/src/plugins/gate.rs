//! Gates: the places of calls in flight, shared fairly between plugins and organizations.
//!
//! Half of the places are set aside in equal parts, one part for each plugin that serves, so that a plugin finds a
//! place however many others are slow. The rest goes to whoever comes first. Within a plugin, an organization gets
//! another place only while it holds fewer than the plugin could still take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::places::{Caller, Places};
use crate::contract::fault::Fault;

/// Time that calls wait for a place before they are refused as overload.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// The gates of a host. Shapers wait for nobody, so their places are apart from those of adapters, which do.
pub(crate) struct Gates {
    pub(crate) adapters: Gate,
    pub(crate) shapers: Gate,
}

impl Gates {
    /// Sets a quarter of the places aside for shapers.
    pub(crate) fn new(max_in_flight: usize) -> Self {
        let shapers = (max_in_flight / 4).max(1);
        Self {
            adapters: Gate::new((max_in_flight - shapers.min(max_in_flight)).max(1)),
            shapers: Gate::new(shapers),
        }
    }
}

/// A bound on calls in flight, and on those that wait.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Mutex<Places>>);

/// A place, given back when it is dropped.
pub(crate) struct Permit {
    gate: Gate,
    caller: Caller,
}

impl Gate {
    fn new(max: usize) -> Self {
        Self(Arc::new(Mutex::new(Places::new(max))))
    }

    /// Takes a place if one is free. `plugins` is the number of those that serve.
    pub(crate) fn try_enter(
        &self,
        plugin: &str,
        organization: &str,
        plugins: usize,
    ) -> Option<Permit> {
        let caller = Caller::new(plugin, organization);
        let is_free = self.lock().try_take(caller, plugins);
        is_free.then(|| self.permit(caller))
    }

    /// Waits for a place, but neither long nor behind many.
    pub(crate) async fn enter(
        &self,
        plugin: &str,
        organization: &str,
        plugins: usize,
    ) -> Result<Permit, Fault> {
        let caller = Caller::new(plugin, organization);
        let (ticket, granted) = {
            let mut places = self.lock();
            // Under the same lock as the queue: a place that comes free in between would not be told of.
            if places.try_take(caller, plugins) {
                return Ok(self.permit(caller));
            }
            places.queue(caller).ok_or(Fault::Overloaded)?
        };
        // Leaves the queue however this ends, also when the caller gives up.
        let _queued = Queued { gate: self, ticket };
        match tokio::time::timeout(MAX_WAIT, granted).await {
            Ok(Ok(permit)) => Ok(permit),
            // A permit that was sent in this instant is dropped with its receiver, which gives its place back.
            _ => Err(Fault::Overloaded),
        }
    }

    fn permit(&self, caller: Caller) -> Permit {
        Permit {
            gate: self.clone(),
            caller,
        }
    }

    fn release(&self, caller: Caller) {
        let mut places = self.lock();
        places.give_back(caller);
        while let Some(next) = places.next() {
            places.take(next.caller);
            let Err(unwanted) = next.permit.send(self.permit(next.caller)) else {
                return;
            };
            // The waiting call is gone. Not dropped as usual: that would lock the places again.
            places.give_back(unwanted.caller);
            std::mem::forget(unwanted);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.release(self.caller);
    }
}

struct Queued<'a> {
    gate: &'a Gate,
    ticket: u64,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.gate.lock().leave_queue(self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::MAX_WAITING_OF_ORGANIZATION;
    use super::*;

    impl Gate {
        /// Enters as often as it can without waiting.
        fn fill(&self, plugin: &str, organization: &str, plugins: usize) -> Vec<Permit> {
            std::iter::from_fn(|| self.try_enter(plugin, organization, plugins)).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_short_and_bounded() {
        let gate = Gate::new(1);
        let held = gate.enter("slow", "org", 1).await.expect("the only place");
        assert!(gate.try_enter("slow", "org", 1).is_none());
        let started = tokio::time::Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..=MAX_WAITING_OF_ORGANIZATION {
            let gate = gate.clone();
            waiting.spawn(async move { gate.enter("slow", "org", 1).await.is_err() });
        }
        let first = waiting
            .join_next()
            .await
            .expect("one too many")
            .expect("it ends");
        assert!(first && started.elapsed().is_zero(), "nowhere to wait");
        let others = waiting.join_all().await;
        assert!(others.iter().all(|refused| *refused), "waited in vain");
        assert_eq!(started.elapsed(), MAX_WAIT);
        let (given, _) = tokio::join!(gate.enter("slow", "org", 1), async { drop(held) });
        drop(given.expect("it waited for the place that came free"));
        assert!(gate.lock().is_empty());
    }

    #[test]
    fn however_many_plugins_are_slow_another_finds_a_place() {
        for slow in [1, 2, 4, 8, 30, 47] {
            let gate = Gate::new(48);
            let mut held = Vec::new();
            // Each with many organizations, or with one of them all.
            for number in 0..slow {
                for organization in 0..slow {
                    let organization = format!("org-{organization}");
                    held.extend(gate.fill(&format!("slow-{number}"), &organization, slow + 1));
                }
            }
            assert!(held.len() < 48, "{slow} slow plugins took every place");
            assert!(
                !gate.fill("innocent", "quiet", slow + 1).is_empty(),
                "{slow} slow plugins"
            );
        }
    }

    #[test]
    fn one_organization_gets_at_most_half() {
        let gate = Gate::new(48);
        let held: Vec<_> = (0..6)
            .flat_map(|number| gate.fill(&format!("plugin-{number}"), "greedy", 6))
            .collect();
        assert_eq!(held.len(), 24, "of all places");
        let gate = Gate::new(48);
        let greedy = gate.fill("plugin", "greedy", 1);
        assert_eq!(greedy.len(), 8, "of a plugin's places");
        assert_eq!(gate.fill("plugin", "quiet", 1).len(), 4);
    }

    #[test]
    fn a_plugin_gets_at_most_half_of_the_host() {
        for (max, most) in [(64, 16), (8, 4), (1, 1)] {
            let gate = Gate::new(max);
            let held: Vec<_> = (0..64)
                .flat_map(|number| gate.fill("plugin", &format!("org-{number}"), 1))
                .collect();
            assert_eq!(held.len(), most, "of {max}");
        }
    }

    #[test]
    fn a_few_slow_plugins_leave_places_where_plugins_are_more_than_these() {
        let gate = Gate::new(8);
        let mut held = Vec::new();
        for plugin in ["slow-a", "slow-b", "slow-c"] {
            for organization in 0..8 {
                held.extend(gate.fill(plugin, &organization.to_string(), 20));
            }
        }
        assert!(held.len() < 8, "{} of 8 are held", held.len());
        assert!(gate.try_enter("quiet", "quiet", 20).is_some());
    }

    #[tokio::test]
    async fn a_free_place_goes_to_whoever_holds_fewest() {
        let gate = Gate::new(2);
        // More plugins than places: one of the two is set aside.
        let mut held: Vec<_> = ["a", "b"]
            .iter()
            .flat_map(|organization| gate.fill(&format!("plugin-{organization}"), organization, 3))
            .collect();
        let first = gate.enter("plugin-a", "c", 3);
        let second = gate.enter("quiet", "d", 3);
        let (first, second, ()) = tokio::join!(first, second, async { drop(held.pop()) });
        assert!(first.is_err(), "it came first, and its plugin holds one");
        assert!(second.is_ok());
    }
}
