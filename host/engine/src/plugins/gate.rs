//! Gates: the places of calls in flight, shared fairly between plugins and organizations.
//!
//! Half of the places are set aside in equal parts, one part for each plugin that serves, so that a plugin finds a
//! place however many others are slow. The rest goes to whoever comes first. Within a plugin, an organization gets
//! another place only while it holds fewer than the plugin could still take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::contract::fault::Fault;

/// Calls of one plugin that run at a time.
const MAX_IN_FLIGHT: usize = 16;
/// Calls of one plugin that wait for a place.
const MAX_WAITING: usize = 64;
/// Of these, calls for one organization.
const MAX_WAITING_OF_ORGANIZATION: usize = MAX_WAITING / 2;
/// Time that they wait before they are refused as overload.
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

/// The plugin and the organization of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Caller {
    plugin: Arc<str>,
    organization: Arc<str>,
}

struct Places {
    max: usize,
    /// Plugins that serve.
    plugins: usize,
    by_plugin: HashMap<Arc<str>, usize>,
    by_organization: HashMap<Arc<str>, usize>,
    by_caller: HashMap<Caller, usize>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    next_ticket: u64,
}

struct Waiting {
    ticket: u64,
    caller: Caller,
    permit: oneshot::Sender<Permit>,
}

/// A place, given back when it is dropped.
pub(crate) struct Permit {
    gate: Gate,
    caller: Caller,
}

impl Gate {
    fn new(max: usize) -> Self {
        Self(Arc::new(Mutex::new(Places {
            max,
            plugins: 1,
            by_plugin: HashMap::new(),
            by_organization: HashMap::new(),
            by_caller: HashMap::new(),
            waiting: Vec::new(),
            next_ticket: 0,
        })))
    }

    /// Waits for a place, but neither long nor behind many. `plugins` is the number of those that serve.
    pub(crate) async fn enter(
        &self,
        plugin: &Arc<str>,
        organization: &str,
        plugins: usize,
    ) -> Result<Permit, Fault> {
        let caller = Caller {
            plugin: plugin.clone(),
            organization: organization.into(),
        };
        let (ticket, granted) = {
            let mut places = self.lock();
            // Told with each call, because plugins come and go: the parts that are set aside follow at once.
            places.plugins = plugins.max(1);
            // The common case takes no place in the queue and starts no timer.
            if places.fits(&caller) {
                places.take(&caller);
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

    fn release(&self, caller: &Caller) {
        let mut places = self.lock();
        places.give_back(caller);
        while let Some(next) = places.next() {
            places.take(&next.caller);
            let Err(unwanted) = next.permit.send(self.permit(next.caller)) else {
                return;
            };
            // The waiting call is gone. Not dropped as usual: that would lock the places again.
            places.give_back(&unwanted.caller);
            std::mem::forget(unwanted);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.release(&self.caller);
    }
}

struct Queued<'a> {
    gate: &'a Gate,
    ticket: u64,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut places = self.gate.lock();
        places.waiting.retain(|call| call.ticket != self.ticket);
    }
}

impl Places {
    /// Places that a plugin finds whatever others do. None where plugins are more than places.
    fn own(&self) -> usize {
        if self.plugins > self.max {
            return 0;
        }
        (self.max / (2 * self.plugins)).clamp(1, self.max_of_plugin())
    }

    /// At most half of all, so that one plugin at its worst leaves room even where it was alone before.
    fn max_of_plugin(&self) -> usize {
        MAX_IN_FLIGHT.min(self.max / 2).max(1)
    }

    /// Places that a plugin could still take.
    fn left_for(&self, plugin: &Arc<str>) -> usize {
        let (own, held) = (self.own(), count(&self.by_plugin, plugin));
        let beyond_own: usize = self.by_plugin.values().map(|n| n.saturating_sub(own)).sum();
        let in_all: usize = self.by_plugin.values().sum();
        let shared = (self.max.saturating_sub(own * self.plugins)).saturating_sub(beyond_own);
        (own.saturating_sub(held) + shared)
            .min(self.max_of_plugin().saturating_sub(held))
            // A plugin that came lately may have made the others' own places fewer than they hold.
            .min(self.max.saturating_sub(in_all))
    }

    fn fits(&self, caller: &Caller) -> bool {
        let left = self.left_for(&caller.plugin);
        let of_organization = count(&self.by_organization, &caller.organization);
        left > 0
            // Its first place is only a question of room; each further one leaves as many to others.
            && count(&self.by_caller, caller) < left
            // Over all plugins: an organization with stores at many marketplaces gets no more than half, either.
            && of_organization < (self.max / 2).max(1)
    }

    fn take(&mut self, caller: &Caller) {
        *self.by_plugin.entry(caller.plugin.clone()).or_default() += 1;
        let organization = caller.organization.clone();
        *self.by_organization.entry(organization).or_default() += 1;
        *self.by_caller.entry(caller.clone()).or_default() += 1;
    }

    fn give_back(&mut self, caller: &Caller) {
        decrease(&mut self.by_plugin, &caller.plugin);
        decrease(&mut self.by_organization, &caller.organization);
        decrease(&mut self.by_caller, caller);
    }

    fn queue(&mut self, caller: Caller) -> Option<(u64, oneshot::Receiver<Permit>)> {
        let of_plugin = self.waiting.iter().map(|call| &call.caller);
        let of_plugin = of_plugin.filter(|other| other.plugin == caller.plugin);
        let (mut in_all, mut of_organization) = (0, 0);
        for other in of_plugin {
            in_all += 1;
            of_organization += usize::from(other.organization == caller.organization);
        }
        // Refused without a wait: overload defers an import, which is asked about again later.
        if in_all >= MAX_WAITING || of_organization >= MAX_WAITING_OF_ORGANIZATION {
            return None;
        }
        let (permit, granted) = oneshot::channel();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push(Waiting {
            ticket,
            caller,
            permit,
        });
        Some((ticket, granted))
    }

    /// Takes the call out of the queue whose plugin holds the fewest places, and among these whose organization does;
    /// the longest waiting first.
    fn next(&mut self) -> Option<Waiting> {
        let fitting = self.waiting.iter().enumerate();
        let fitting = fitting.filter(|(_, call)| self.fits(&call.caller));
        let (index, _) = fitting.min_by_key(|(_, call)| {
            let of_plugin = count(&self.by_plugin, &call.caller.plugin);
            (of_plugin, count(&self.by_caller, &call.caller))
        })?;
        Some(self.waiting.remove(index))
    }
}

fn count<K: std::hash::Hash + Eq>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or_default()
}

/// Takes one off a count. Counts of zero leave, so that the maps hold no more than what is in flight.
fn decrease<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Gate {
        /// Enters as often as it can without waiting.
        fn fill(&self, plugin: &str, organization: &str, plugins: usize) -> Vec<Permit> {
            let caller = Caller {
                plugin: plugin.into(),
                organization: organization.into(),
            };
            let mut permits = Vec::new();
            loop {
                let mut places = self.lock();
                places.plugins = plugins;
                if !places.fits(&caller) {
                    return permits;
                }
                places.take(&caller);
                permits.push(self.permit(caller.clone()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_short_and_bounded() {
        let gate = Gate::new(1);
        let plugin: Arc<str> = "slow".into();
        let held = gate.enter(&plugin, "org", 1).await.expect("the only place");
        let started = tokio::time::Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..=MAX_WAITING_OF_ORGANIZATION {
            let (gate, plugin) = (gate.clone(), plugin.clone());
            waiting.spawn(async move { gate.enter(&plugin, "org", 1).await.is_err() });
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
        let (given, _) = tokio::join!(gate.enter(&plugin, "org", 1), async { drop(held) });
        drop(given.expect("it waited for the place that came free"));
        let places = gate.lock();
        assert!(places.waiting.is_empty() && places.by_plugin.is_empty());
        assert!(places.by_caller.is_empty() && places.by_organization.is_empty());
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

    #[tokio::test]
    async fn a_free_place_goes_to_whoever_holds_fewest() {
        let gate = Gate::new(2);
        let (again, quiet): (Arc<str>, Arc<str>) = ("plugin-a".into(), "quiet".into());
        // More plugins than places: nothing is set aside.
        let mut held: Vec<_> = ["a", "b"]
            .iter()
            .flat_map(|organization| gate.fill(&format!("plugin-{organization}"), organization, 3))
            .collect();
        let first = gate.enter(&again, "c", 3);
        let second = gate.enter(&quiet, "d", 3);
        let (first, second, ()) = tokio::join!(first, second, async { drop(held.pop()) });
        assert!(first.is_err(), "it came first, and its plugin holds one");
        assert!(second.is_ok());
    }
}
