//! The places for connections, and who gets one when all are taken.
//!
//! The longest idle connections make room for new ones: whoever holds connections and says nothing on them loses them
//! first. Where every place has a request in work, a few more connections are admitted for health checks alone. Once
//! places are scarce, a client address gets no more than half of them.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio_util::sync::CancellationToken;
use wharf_app::{App, ConnectionClosed};

use super::activity::Activity;
use crate::limits::ClientAddress;

/// Places for health checks: enough for a supervisor, a load balancer's nodes and an operator at the same time.
const MAX_PROBES: usize = 32;
/// This part of the places is made free at a time, so that looking for idle ones costs a flood's victim little.
const EVICTED_PART: usize = 64;

/// Bits of an IPv6 address that tell clients apart: whoever has one such address has all that share these.
const IPV6_PREFIX_BITS: u32 = 64;

/// The rights of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Everything.
    Full,
    /// Health checks; the rest is answered 503.
    Probes,
}

/// All places of a server.
pub(super) struct Places {
    max: usize,
    // `None` where nobody counts: the address for metrics alone, and the mock receiver.
    app: Option<App>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    connections: HashMap<u64, Connection>,
}

#[derive(Clone)]
struct Connection {
    class: Class,
    client: IpAddr,
    activity: Arc<Activity>,
    /// Cancelled when its place is given to another.
    evicted: CancellationToken,
}

/// The fate of a new connection.
pub(super) enum Admission {
    /// It has a place.
    Admitted(Place),
    /// There is none, not even for health checks.
    Refused,
}

/// A connection's place. It is free when this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    pub(super) class: Class,
    pub(super) client: ClientAddress,
    pub(super) activity: Arc<Activity>,
    pub(super) evicted: CancellationToken,
}

impl Places {
    pub(super) fn new(max: usize, app: Option<App>) -> Arc<Self> {
        Arc::new(Self {
            // With none there would be nobody to evict, and only health checks would ever be answered.
            max: max.max(1),
            app,
            taken: Mutex::default(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // The map is whole between any two statements, so a panic while it was held harms nothing.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection from this address a place, if need be an idle one's.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Admission {
        let client = client_of(address);
        let mut taken = self.taken();
        // All under one lock: two that come at once must not both count the place that one eviction made.
        let (class, evicted) = taken.class_of_next(self.max, client);
        self.tell(ConnectionClosed::Evicted, evicted);
        let Some(class) = class else {
            self.tell(ConnectionClosed::Refused, 1);
            // The socket is dropped without an answer: to write one would need the place that is not there.
            return Admission::Refused;
        };
        let connection = Connection {
            class,
            client,
            activity: Arc::new(Activity::new(Instant::now())),
            evicted: CancellationToken::new(),
        };
        let place = Place {
            places: self.clone(),
            id: taken.next,
            class,
            client: ClientAddress {
                network: client,
                is_loopback: address.to_canonical().is_loopback(),
            },
            activity: connection.activity.clone(),
            evicted: connection.evicted.clone(),
        };
        taken.next += 1;
        taken.connections.insert(place.id, connection);
        // Under the lock, here and in `drop`, so that an older number never overwrites a newer one.
        self.tell_open(&taken);
        Admission::Admitted(place)
    }

    /// Makes descriptors free, if idle connections have any.
    pub(super) fn evict_some(&self) {
        let (mut taken, most) = (self.taken(), self.max.div_ceil(EVICTED_PART));
        // Health checks are spared as long as anybody else is idle: without one a supervisor ends the host.
        let evicted = match taken.evict(|one| one.class == Class::Full, most) {
            0 => taken.evict(|one| one.class == Class::Probes, most),
            evicted => evicted,
        };
        self.tell(ConnectionClosed::Evicted, evicted);
    }

    fn tell(&self, why: ConnectionClosed, connections: usize) {
        if let Some(app) = &self.app {
            app.metrics().connections_closed(why, connections);
        }
    }

    fn tell_open(&self, taken: &Taken) {
        if let Some(app) = &self.app {
            app.metrics().connections_open(taken.connections.len());
        }
    }
}

impl Taken {
    /// Returns the class of the next connection, if it may come, and how many idle ones were evicted for it.
    fn class_of_next(&mut self, max: usize, client: IpAddr) -> (Option<Class>, usize) {
        let is_full = |one: &Connection| one.class == Class::Full;
        let some = max.div_ceil(EVICTED_PART);
        let mut evicted = 0;
        if self.has_its_share(max, client) {
            // Its own idle ones, and nobody else's.
            evicted += self.evict(|one| is_full(one) && one.client == client, some);
        }
        if !self.has_its_share(max, client) {
            if self.has_place(max) {
                return (Some(Class::Full), evicted);
            }
            // Before its rights are cut: whoever says nothing must not push others into the places for health checks.
            evicted += self.evict(is_full, some);
            if self.has_place(max) {
                return (Some(Class::Full), evicted);
            }
        }
        let is_probe = |one: &Connection| one.class == Class::Probes;
        if self.staying(is_probe) >= MAX_PROBES {
            evicted += self.evict(is_probe, 1);
        }
        let has_probe = self.staying(is_probe) < MAX_PROBES;
        (has_probe.then_some(Class::Probes), evicted)
    }

    /// Returns true if a client has half of the places and less than a quarter of all are free: these are for others. A
    /// proxy that everybody comes through has three quarters.
    fn has_its_share(&self, max: usize, client: IpAddr) -> bool {
        let (scarce, half) = (max - max / 4, (max / 2).max(1));
        // The common case counts nothing.
        self.connections.len() >= scarce
            && self.staying(|one| one.class == Class::Full) >= scarce
            && self.staying(|one| one.class == Class::Full && one.client == client) >= half
    }

    /// Returns true if a connection with all rights may come. Those that were evicted go as soon as their tasks run, so
    /// that for a moment there are more sockets than places.
    fn has_place(&self, max: usize) -> bool {
        self.connections.len() < max || self.staying(|one| one.class == Class::Full) < max
    }

    /// Counts the connections of a kind that nobody has evicted.
    fn staying(&self, kind: impl Fn(&Connection) -> bool) -> usize {
        let stays = |one: &&Connection| kind(one) && !one.evicted.is_cancelled();
        self.connections.values().filter(stays).count()
    }

    /// Evicts up to so many of the longest idle connections of a kind. Returns how many there were.
    fn evict(&mut self, kind: impl Fn(&Connection) -> bool, most: usize) -> usize {
        let of_kind = self
            .connections
            .values()
            // To evict somebody twice frees nothing: the newcomer would find no place after all.
            .filter(|one| kind(one) && !one.evicted.is_cancelled());
        let mut idle: Vec<_> = of_kind
            .filter_map(|one| Some((one.activity.idle_since()?, one)))
            .collect();
        idle.sort_by_key(|(since, _)| *since);
        idle.truncate(most);
        for (_, one) in &idle {
            one.evicted.cancel();
        }
        idle.len()
    }
}

/// Returns the address by which a client is told from others.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (u128::BITS - IPV6_PREFIX_BITS);
            Ipv6Addr::from(address.to_bits() & mask).into()
        }
        address => address,
    }
}

impl Place {
    /// Counts why the connection was closed.
    pub(super) fn tell(&self, why: ConnectionClosed) {
        self.places.tell(why, 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.connections.remove(&self.id);
        self.places.tell_open(&taken);
    }
}

#[cfg(test)]
mod tests {
    use super::super::activity::Exchange;
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn admitted(places: &Arc<Places>, client: IpAddr) -> Place {
        match places.admit(client) {
            Admission::Admitted(place) => place,
            Admission::Refused => panic!("there is room"),
        }
    }

    #[test]
    fn idle_connections_make_room_before_a_newcomer_s_rights_are_cut() {
        let places = Places::new(2, None);
        let held: Vec<_> = (0..5).map(|_| admitted(&places, HERE)).collect();
        assert!(held.iter().all(|place| place.class == Class::Full));
        let evicted: Vec<_> = held
            .iter()
            .map(|place| place.evicted.is_cancelled())
            .collect();
        assert_eq!(
            evicted,
            [true, true, true, false, false],
            "the longest idle first"
        );
    }
    #[test]
    fn a_client_at_work_leaves_a_quarter_to_others_and_takes_half_of_what_is_shared() {
        let places = Places::new(8, None);
        let [many, few] =
            ["2001:db8::1", "192.0.2.1"].map(|text| text.parse().expect("an address"));
        let at_work = |client: IpAddr, times: usize| -> Vec<_> {
            let at_work = (0..times).map(|_| {
                let place = admitted(&places, client);
                let exchange = place.activity.begin(false);
                (place, exchange)
            });
            at_work.collect()
        };
        let held = at_work(many, 8);
        let full = |held: &[(Place, Exchange)]| {
            let full = held.iter().filter(|(one, _)| one.class == Class::Full);
            full.count()
        };
        assert_eq!(full(&held), 6);
        let neighbour = at_work("2001:db8::2".parse().expect("an address"), 1);
        assert_eq!(full(&neighbour), 0, "of the same network");
        let others = at_work(few, 3);
        assert_eq!(full(&others), 2, "all that is left");
        let mut all = held.iter().chain(&others);
        assert!(
            all.all(|(one, _)| !one.evicted.is_cancelled()),
            "nobody is idle"
        );
    }
}
