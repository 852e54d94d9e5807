//! What a process remembers of keys. Bounded in number and in time, so that neither many keys nor many made-up ones make
//! it large, and a key that is revoked is refused by every process soon.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64},
    time::{Duration, Instant},
};

use wharf_domain::{ApiKeyId, Time};

use super::{Caller, KeyRefusal, Renewal};

/// How long an answer of the database is believed. Every process refuses a revoked key after this long.
const FRESH: Duration = Duration::from_secs(10);
/// How long a key that was right counts as known, which gives it the lanes that made-up keys cannot fill.
const KNOWN: Duration = Duration::from_secs(10 * 60);
/// Right keys that are remembered; some hundred bytes each. The oldest half is forgotten beyond that.
const MOST_KNOWN: usize = 8_192;
/// Refused ones.
const MOST_REFUSED: usize = 8_192;
/// Questions at a time about keys that were right before.
const LANES: usize = 8;
/// Questions at a time about keys that this process has never seen right: all that a flood of made-up ones can take of the
/// database's connections.
const STRANGERS_LANES: usize = 2;

type Name = [u8; 32];
type Verdict = Result<Arc<Verified>, KeyRefusal>;

/// A key that is right.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) caller: Caller,
    /// `None` for a token, which is no row.
    pub(super) key: Option<ApiKeyId>,
    pub(super) ends_at: Option<Time>,
    pub(super) renewed: Renewal,
    /// The last minute whose use was noted, counted from 1970.
    pub(super) minute: AtomicI64,
}

/// All of them.
pub(super) struct Cache {
    known: Mutex<Generations<(Arc<Verified>, Instant)>>,
    refused: Mutex<Generations<(KeyRefusal, Instant)>>,
    lanes: [tokio::sync::Mutex<()>; LANES],
    strangers: [tokio::sync::Mutex<()>; STRANGERS_LANES],
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            known: Mutex::new(Generations::new(KNOWN, MOST_KNOWN)),
            refused: Mutex::new(Generations::new(FRESH, MOST_REFUSED)),
            lanes: Default::default(),
            strangers: Default::default(),
        }
    }
}

impl Cache {
    /// What is known of this key since less than ten seconds.
    pub(super) fn fresh(&self, name: &Name, now: Instant) -> Option<Verdict> {
        let is_fresh = |since: Instant| now.saturating_duration_since(since) < FRESH;
        let known = locked(&self.known).get(name, now);
        if let Some((verified, _)) = known.filter(|(_, since)| is_fresh(*since)) {
            return Some(Ok(verified));
        }
        let refused = locked(&self.refused).get(name, now);
        let (why, _) = refused.filter(|(_, since)| is_fresh(*since))?;
        Some(Err(why))
    }

    /// Where to wait for the question about this key: the same place for the same key.
    pub(super) fn lane(&self, name: &Name, now: Instant) -> &tokio::sync::Mutex<()> {
        let at = usize::from(name[0]);
        match locked(&self.known).get(name, now) {
            Some(_) => &self.lanes[at % LANES],
            None => &self.strangers[at % STRANGERS_LANES],
        }
    }

    /// Remembers what the database answered to a question that was asked at `asked`.
    pub(super) fn keep(&self, name: Name, verdict: Verdict, asked: Instant) {
        match verdict {
            Ok(verified) => locked(&self.known).put(name, (verified, asked), asked),
            Err(why) => {
                // It was right until now, perhaps: it must not be found there.
                locked(&self.known).forget(&name);
                locked(&self.refused).put(name, (why, asked), asked);
            }
        }
    }

    /// Forgets a key at once, in this process.
    pub(super) fn forget(&self, key: ApiKeyId) {
        locked(&self.known).keep_only(|(verified, _)| verified.key != Some(key));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A map that forgets: what was put in two turns ago is gone, and it turns when its time is over or it is full.
struct Generations<V> {
    young: HashMap<Name, V>,
    old: HashMap<Name, V>,
    turned: Option<Instant>,
    every: Duration,
    most: usize,
}

impl<V: Clone> Generations<V> {
    fn new(every: Duration, most: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            turned: None,
            every,
            // Both halves together.
            most: most / 2,
        }
    }

    fn get(&mut self, name: &Name, now: Instant) -> Option<V> {
        self.turn_in_time(now);
        self.young.get(name).or_else(|| self.old.get(name)).cloned()
    }

    fn put(&mut self, name: Name, value: V, now: Instant) {
        self.turn_in_time(now);
        if self.young.len() >= self.most && !self.young.contains_key(&name) {
            self.turn(now);
        }
        self.young.insert(name, value);
    }

    fn forget(&mut self, name: &Name) {
        self.young.remove(name);
        self.old.remove(name);
    }

    fn keep_only(&mut self, is_kept: impl Fn(&V) -> bool) {
        self.young.retain(|_, value| is_kept(value));
        self.old.retain(|_, value| is_kept(value));
    }

    fn turn_in_time(&mut self, now: Instant) {
        let turned = *self.turned.get_or_insert(now);
        let age = now.saturating_duration_since(turned);
        if age >= self.every {
            self.turn(now);
        }
        if age >= 2 * self.every {
            self.old.clear();
        }
    }

    fn turn(&mut self, now: Instant) {
        self.old = mem::take(&mut self.young);
        self.turned = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> Name {
        let mut name = [0; 32];
        name[..4].copy_from_slice(&number.to_be_bytes());
        name
    }

    fn verified() -> Verdict {
        Ok(Arc::new(Verified {
            caller: Caller::anyone(),
            key: Some(ApiKeyId(uuid::Uuid::max())),
            ends_at: None,
            renewed: Renewal::default(),
            minute: 0.into(),
        }))
    }

    #[test]
    fn an_answer_is_believed_for_ten_seconds() {
        let (cache, start) = (Cache::default(), Instant::now());
        cache.keep(name(1), verified(), start);
        cache.keep(name(2), Err(KeyRefusal::Unknown), start);
        let late = |seconds| start + Duration::from_secs(seconds);
        assert!(matches!(cache.fresh(&name(1), late(9)), Some(Ok(_))));
        assert!(matches!(cache.fresh(&name(2), late(9)), Some(Err(_))));
        assert!(cache.fresh(&name(1), late(10)).is_none());
        assert!(cache.fresh(&name(2), late(10)).is_none());
        cache.keep(name(1), verified(), late(10));
        assert!(matches!(cache.fresh(&name(1), late(19)), Some(Ok(_))));
        cache.keep(name(1), Err(KeyRefusal::Revoked), late(20));
        assert!(matches!(cache.fresh(&name(1), late(21)), Some(Err(_))));
    }

    #[test]
    fn a_revoked_key_is_forgotten_at_once() {
        let (cache, start) = (Cache::default(), Instant::now());
        cache.keep(name(1), verified(), start);
        cache.forget(ApiKeyId(uuid::Uuid::max()));
        assert!(cache.fresh(&name(1), start).is_none());
    }

    #[test]
    fn made_up_keys_neither_fill_it_nor_take_the_lanes_of_right_ones() {
        let (cache, start) = (Cache::default(), Instant::now());
        cache.keep(name(0), verified(), start);
        for number in 1..50_000 {
            cache.keep(name(number), Err(KeyRefusal::Unknown), start);
        }
        let refused = locked(&cache.refused);
        assert!(refused.young.len() + refused.old.len() <= MOST_REFUSED);
        drop(refused);
        assert!(matches!(cache.fresh(&name(0), start), Some(Ok(_))));
        let is_strangers = |number| {
            let lane: *const _ = cache.lane(&name(number), start);
            cache.strangers.iter().any(|one| std::ptr::eq(one, lane))
        };
        assert!(is_strangers(50_001) && !is_strangers(0));
    }
}
