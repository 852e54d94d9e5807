//! The places of one gate and the rules by which they are shared, as pure data behind the gate's lock.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::oneshot;

use super::gate::Permit;

/// Calls of one plugin that run at a time.
const MAX_IN_FLIGHT: usize = 16;
/// Calls of one plugin that wait for a place.
const MAX_WAITING: usize = 64;
/// Of these, calls for one organization.
pub(super) const MAX_WAITING_OF_ORGANIZATION: usize = MAX_WAITING / 2;

/// The plugin and the organization of a call, as hashes: clients choose the names, and these are short and cost nothing
/// to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    plugin: u64,
    organization: u64,
}

impl Caller {
    pub(super) fn new(plugin: &str, organization: &str) -> Self {
        let hash = |name: &str| {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            hasher.finish()
        };
        Self {
            plugin: hash(plugin),
            organization: hash(organization),
        }
    }
}

/// The places of one gate, and who waits for one.
pub(super) struct Places {
    max: usize,
    /// Plugins that serve.
    plugins: usize,
    /// Places that are held. Few enough that counting them is quicker than keeping counts.
    held: Vec<Caller>,
    /// The sum of them for each plugin that holds any.
    by_plugin: Vec<(u64, usize)>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    next_ticket: u64,
}

/// A call that waits for a place.
pub(super) struct Waiting {
    ticket: u64,
    pub(super) caller: Caller,
    pub(super) permit: oneshot::Sender<Permit>,
}

impl Places {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            plugins: 1,
            held: Vec::new(),
            by_plugin: Vec::new(),
            waiting: Vec::new(),
            next_ticket: 0,
        }
    }

    /// Places that a plugin finds whatever others do; where plugins are more than places, as long as there are any left of
    /// those that are set aside.
    fn own(&self) -> usize {
        (self.max / (2 * self.plugins)).clamp(1, self.max_of_plugin())
    }

    /// Places that are set aside. Where plugins are more than places these are half of all, for the first call of each: a
    /// few slow plugins must not hold everything.
    fn set_aside(&self) -> usize {
        if self.plugins > self.max {
            self.max / 2
        } else {
            self.own() * self.plugins
        }
    }

    /// At most half of all, so that one plugin at its worst leaves room even where it was alone before.
    fn max_of_plugin(&self) -> usize {
        MAX_IN_FLIGHT.min(self.max / 2).max(1)
    }

    /// Places that a plugin could still take.
    fn left_for(&self, plugin: u64) -> usize {
        let (own, held) = (self.own(), self.of_plugin(plugin));
        let (mut within_own, mut beyond_own) = (0, 0);
        for (_, held) in &self.by_plugin {
            within_own += held.min(&own);
            beyond_own += held.saturating_sub(own);
        }
        let set_aside = self.set_aside();
        // What does not fit into the places set aside has taken shared ones.
        beyond_own += within_own.saturating_sub(set_aside);
        let shared = self.max.saturating_sub(set_aside + beyond_own);
        let own_left = own
            .saturating_sub(held)
            .min(set_aside.saturating_sub(within_own));
        (own_left + shared)
            .min(self.max_of_plugin().saturating_sub(held))
            // A plugin that came lately may have made the others' own places fewer than they hold.
            .min(self.max.saturating_sub(self.held.len()))
    }

    fn of_plugin(&self, plugin: u64) -> usize {
        let held = self.by_plugin.iter().find(|(other, _)| *other == plugin);
        held.map_or(0, |(_, held)| *held)
    }

    fn of_caller(&self, caller: Caller) -> usize {
        self.held.iter().filter(|held| **held == caller).count()
    }

    fn fits(&self, caller: Caller) -> bool {
        let left = self.left_for(caller.plugin);
        let of_organization = |held: &&Caller| held.organization == caller.organization;
        left > 0
            // Its first place is only a question of room; each further one leaves as many to others.
            && self.of_caller(caller) < left
            // Over all plugins: an organization with stores at many marketplaces gets no more than half, either.
            && self.held.iter().filter(of_organization).count() < (self.max / 2).max(1)
    }

    /// Takes a place if this caller may have one. `plugins` is the number of those that serve.
    pub(super) fn try_take(&mut self, caller: Caller, plugins: usize) -> bool {
        // Told with each call, because plugins come and go: the parts that are set aside follow at once.
        self.plugins = plugins.max(1);
        let fits = self.fits(caller);
        if fits {
            self.take(caller);
        }
        fits
    }

    /// Takes a place for a call that [`next`](Self::next) returned.
    pub(super) fn take(&mut self, caller: Caller) {
        self.held.push(caller);
        let mut by_plugin = self.by_plugin.iter_mut();
        match by_plugin.find(|(plugin, _)| *plugin == caller.plugin) {
            Some((_, held)) => *held += 1,
            None => self.by_plugin.push((caller.plugin, 1)),
        }
    }

    pub(super) fn give_back(&mut self, caller: Caller) {
        if let Some(at) = self.held.iter().position(|held| *held == caller) {
            self.held.swap_remove(at);
        }
        let mut by_plugin = self.by_plugin.iter();
        if let Some(at) = by_plugin.position(|(plugin, _)| *plugin == caller.plugin) {
            self.by_plugin[at].1 -= 1;
            // Plugins that hold none leave, so that the list is no longer than what is in flight.
            if self.by_plugin[at].1 == 0 {
                self.by_plugin.swap_remove(at);
            }
        }
    }

    /// Returns a ticket of the queue and the way to hear of a place, if the queue is not full.
    pub(super) fn queue(&mut self, caller: Caller) -> Option<(u64, oneshot::Receiver<Permit>)> {
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
    pub(super) fn next(&mut self) -> Option<Waiting> {
        let fitting = self.waiting.iter().enumerate();
        let fitting = fitting.filter(|(_, call)| self.fits(call.caller));
        let (index, _) = fitting.min_by_key(|(_, call)| {
            let of_plugin = self.of_plugin(call.caller.plugin);
            (of_plugin, self.of_caller(call.caller))
        })?;
        Some(self.waiting.remove(index))
    }

    pub(super) fn leave_queue(&mut self, ticket: u64) {
        self.waiting.retain(|call| call.ticket != ticket);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty() && self.by_plugin.is_empty()
    }
}
