//! The limits of one client: how many requests a second, and how many at a time.
//!
//! A client is an organization with all its keys, an operator's key or, without any, an address. The figures are those of
//! this process alone. So many clients are
//! known at most; whoever has its whole budget and nothing in work is forgotten first, which changes nothing, and then
//! whoever has most of its budget: nobody wins much by being forgotten, for it takes as many others that have less.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use wharf_app::Caller;
use wharf_domain::{Budget, Time};

/// Clients that are remembered, about 100 bytes each.
const MAX_CLIENTS: usize = 65_536;
/// Parts of the memory, so that requests on several processors rarely wait for each other.
const SHARDS: usize = 16;
/// This part of a shard is forgotten at a time, so that looking for whom costs each newcomer little.
const FORGOTTEN_PART: usize = 16;

/// The limits of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimit {
    /// Requests a second; `None` for any number.
    pub rate: Option<Budget>,
    /// Requests at a time; `None` for any number.
    pub concurrency: Option<u32>,
}

impl ClientLimit {
    fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// The limits of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Of an organization or an operator's key, and of an address beyond this machine.
    pub client: ClientLimit,
    /// Of everybody on this machine together who has no key.
    pub local: ClientLimit,
}

/// The address of a request's client: of IPv6 the network that all its addresses share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    pub(crate) network: IpAddr,
    pub(crate) is_loopback: bool,
}

/// The sender of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// Somebody with a key or a token.
    Caller(&'a Caller),
    /// Anybody at an address.
    Address(ClientAddress),
}

/// One whose requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    Local,
    Address(IpAddr),
    /// By a digest of its name, which nobody can foresee: two that share one are rarer than a broken machine.
    Named(u64),
}

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    /// Too many a second; how long until the next may come.
    Rate(Duration),
    /// Too many at a time.
    Concurrency,
}

/// What is known of clients.
pub(crate) struct Clients {
    limits: ClientLimits,
    hasher: RandomState,
    shards: [Mutex<HashMap<Client, Usage>>; SHARDS],
    /// The beginning of this process's own time, which nobody can set.
    origin: Instant,
}

struct Usage {
    spent_until: Time,
    in_work: Arc<AtomicU32>,
}

impl Usage {
    fn is_at_work(&self) -> bool {
        self.in_work.load(Ordering::Relaxed) > 0
    }
}

/// A request in work. It ends when this is dropped.
pub(crate) struct InWork(Option<Arc<AtomicU32>>);

impl InWork {
    pub(crate) fn uncounted() -> Self {
        Self(None)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        if let Some(in_work) = &self.0 {
            in_work.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Clients {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self {
            limits,
            hasher: RandomState::new(),
            shards: Default::default(),
            origin: Instant::now(),
        }
    }

    /// Lets a request in, or not.
    pub(crate) fn admit(&self, whose: Whose<'_>) -> Result<InWork, Limited> {
        let limit = match whose {
            Whose::Address(address) if address.is_loopback => self.limits.local,
            Whose::Address(_) | Whose::Caller(_) => self.limits.client,
        };
        if limit.is_none() {
            return Ok(InWork::uncounted());
        }
        let passed = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.count(self.client(whose), limit, Time::from_micros(passed))
    }

    fn client(&self, whose: Whose<'_>) -> Client {
        match whose {
            Whose::Address(address) if address.is_loopback => Client::Local,
            Whose::Address(address) => Client::Address(address.network),
            Whose::Caller(caller) => Client::Named(match caller.organization() {
                // Not by key: an organization may have a hundred.
                Some(organization) => self
                    .hasher
                    .hash_one(("organization", organization.as_str())),
                None => self.hasher.hash_one(("operator", caller.id())),
            }),
        }
    }

    fn count(&self, client: Client, limit: ClientLimit, now: Time) -> Result<InWork, Limited> {
        let shard = &self.shards[self.hasher.hash_one(client) as usize % SHARDS];
        // A usage is whole between any two statements, so a panic while it was held harms nothing.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= MAX_CLIENTS / SHARDS && !shard.contains_key(&client) {
            make_room(&mut shard, now)?;
        }
        let usage = shard.entry(client).or_insert_with(|| Usage {
            spent_until: now,
            in_work: Arc::default(),
        });
        let most = limit.concurrency.unwrap_or(u32::MAX);
        if usage.in_work.load(Ordering::Relaxed) >= most {
            return Err(Limited::Concurrency);
        }
        if let Some(rate) = limit.rate {
            usage.spent_until = rate.spend(usage.spent_until, now).map_err(Limited::Rate)?;
        }
        // Only here, under the lock, does it rise: no two requests take the last place.
        usage.in_work.fetch_add(1, Ordering::Relaxed);
        Ok(InWork(Some(usage.in_work.clone())))
    }
}

/// Forgets clients, so that another fits in.
fn make_room(shard: &mut HashMap<Client, Usage>, now: Time) -> Result<(), Limited> {
    shard.retain(|_, usage| usage.is_at_work() || usage.spent_until > now);
    if shard.len() < MAX_CLIENTS / SHARDS {
        return Ok(());
    }
    let idle = shard.values().filter(|usage| !usage.is_at_work());
    let mut idle: Vec<Time> = idle.map(|usage| usage.spent_until).collect();
    if idle.is_empty() {
        // As many clients at work as fit in: one more is one too many.
        return Err(Limited::Concurrency);
    }
    let last = (idle.len() - 1).min(MAX_CLIENTS / SHARDS / FORGOTTEN_PART);
    let (_, last, _) = idle.select_nth_unstable(last);
    shard.retain(|_, usage| usage.is_at_work() || usage.spent_until > *last);
    Ok(())
}

#[cfg(test)]
mod tests {
    use wharf_domain::OrganizationId;

    use super::*;

    const LIMIT: ClientLimit = ClientLimit {
        rate: None,
        concurrency: Some(2),
    };

    fn at(millis: i64) -> Time {
        Time::from_micros(millis * 1_000)
    }

    fn address(number: u32) -> Client {
        Client::Address(IpAddr::V4(number.into()))
    }

    fn rate(rate: u32, burst: u32) -> ClientLimit {
        ClientLimit {
            rate: Some(Budget::per_second(rate, burst)),
            concurrency: None,
        }
    }

    fn clients() -> Clients {
        Clients::new(ClientLimits::default())
    }

    #[test]
    fn a_client_has_so_many_requests_in_work() {
        let clients = clients();
        let first = clients.count(Client::Local, LIMIT, at(0));
        let second = clients.count(Client::Local, LIMIT, at(0));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(
            clients.count(Client::Local, LIMIT, at(0)).err(),
            Some(Limited::Concurrency)
        );
        assert!(
            clients.count(address(1), LIMIT, at(0)).is_ok(),
            "another client"
        );
        drop(first);
        assert!(clients.count(Client::Local, LIMIT, at(0)).is_ok());
    }

    #[test]
    fn a_client_s_rate_is_its_own() {
        let (clients, limit) = (clients(), rate(10, 2));
        for _ in 0..2 {
            assert!(clients.count(address(1), limit, at(0)).is_ok());
        }
        let refused = clients.count(address(1), limit, at(0)).err();
        assert_eq!(refused, Some(Limited::Rate(Duration::from_millis(100))));
        assert!(clients.count(address(2), limit, at(0)).is_ok());
        assert!(
            clients.count(address(1), limit, at(100)).is_ok(),
            "a tenth of a second later"
        );
    }

    #[test]
    fn an_organization_is_one_client_with_all_its_keys() {
        let limit = ClientLimit {
            rate: None,
            concurrency: Some(1),
        };
        let clients = Clients::new(ClientLimits {
            client: limit,
            local: ClientLimit::default(),
        });
        let of = |name: &str| Caller::of_organization(OrganizationId::parse(name).expect("an id"));
        let held = clients.admit(Whose::Caller(&of("a")));
        assert!(held.is_ok());
        assert!(
            clients.admit(Whose::Caller(&of("a"))).is_err(),
            "another key"
        );
        let others = [of("b"), Caller::admin()];
        assert!(
            others
                .iter()
                .all(|one| clients.admit(Whose::Caller(one)).is_ok())
        );
    }

    /// A flood of addresses must neither grow the memory nor give anybody its budget back.
    #[test]
    fn what_is_forgotten_first_is_what_has_spent_least() {
        let (clients, limit) = (clients(), rate(1, 5));
        for _ in 0..5 {
            assert!(clients.count(address(0), limit, at(0)).is_ok());
        }
        let busy = clients.count(address(1), limit, at(0));
        for number in 2..3 * MAX_CLIENTS as u32 {
            assert!(clients.count(address(number), limit, at(0)).is_ok());
        }
        let known: usize = clients
            .shards
            .iter()
            .map(|shard| shard.lock().expect("whole").len())
            .sum();
        assert!(known <= MAX_CLIENTS, "{known}");
        assert!(
            clients.count(address(0), limit, at(0)).is_err(),
            "it spent most"
        );
        drop(busy);
    }

    #[test]
    fn those_at_work_are_never_forgotten() {
        let clients = clients();
        // A few more than fit in.
        let asked = MAX_CLIENTS as u32 + 2_000;
        let held: Vec<_> = (0..asked)
            .filter_map(|number| clients.count(address(number), LIMIT, at(0)).ok())
            .collect();
        assert!(held.len() > MAX_CLIENTS - 2_000 && held.len() <= MAX_CLIENTS);
        let known = clients.shards.iter().map(|shard| {
            let shard = shard.lock().expect("whole");
            assert!(shard.values().all(Usage::is_at_work));
            shard.len()
        });
        assert_eq!(known.sum::<usize>(), held.len());
        drop(held);
        assert!((0..asked).all(|number| clients.count(address(number), LIMIT, at(0)).is_ok()));
    }

    #[test]
    fn this_machine_is_one_client_and_without_limits_nobody_is_counted() {
        let local = ClientLimit {
            rate: None,
            concurrency: Some(1),
        };
        let clients = Clients::new(ClientLimits {
            client: ClientLimit::default(),
            local,
        });
        let from = |text: &str, is_loopback| {
            let network = text.parse().expect("an address");
            clients.admit(Whose::Address(ClientAddress {
                network,
                is_loopback,
            }))
        };
        let first = from("127.0.0.1", true);
        assert!(first.is_ok() && from("127.0.0.2", true).is_err());
        let others: Vec<_> = (0..9).map(|_| from("192.0.2.1", false)).collect();
        assert!(others.iter().all(Result::is_ok));
        assert!(
            clients
                .shards
                .iter()
                .all(|shard| shard.lock().expect("whole").len() <= 1)
        );
    }
}
