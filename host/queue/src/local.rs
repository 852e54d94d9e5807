//! The backend of the embedded default: one process, no servers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;
use wharf_domain::StoreId;

use crate::{MAX_HEARD, MAX_KEPT, Queue};

/// News and locks of one process.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    sync_store: Waiting,
    callback: Waiting,
    owners: Mutex<HashMap<StoreId, Owner>>,
}

#[derive(Debug, Default)]
struct Waiting {
    news: Mutex<News>,
    /// Holds one permit when nobody waits. One is enough, since every listener looks at `news` before it waits.
    rung: Notify,
}

#[derive(Debug, Default)]
struct News {
    order: VecDeque<String>,
    known: HashSet<String>,
}

#[derive(Debug)]
struct Owner {
    token: Uuid,
    until: Instant,
}

/// Nothing here panics with a lock held, and each change is complete in itself, so a poisoned mutex is still sound.
fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bell {
    fn waiting(&self, queue: Queue) -> &Waiting {
        match queue {
            Queue::SyncStore => &self.sync_store,
            Queue::Callback => &self.callback,
        }
    }

    pub(crate) fn ring(&self, queue: Queue, job_id: &str) {
        let waiting = self.waiting(queue);
        let mut news = open(&waiting.news);
        // A full queue drops news: its workers have reason enough to look.
        if news.order.len() < MAX_KEPT && news.known.insert(job_id.to_owned()) {
            news.order.push_back(job_id.to_owned());
            waiting.rung.notify_one();
        }
    }

    /// The oldest news, as soon as there is any. Safe to cancel: it takes news only at the moment it returns.
    pub(crate) async fn hear(&self, queue: Queue) -> Vec<String> {
        let waiting = self.waiting(queue);
        loop {
            // Looked at before waiting: the permit may be older than the news.
            let jobs = open(&waiting.news).take();
            if !jobs.is_empty() {
                return jobs;
            }
            waiting.rung.notified().await;
        }
    }

    /// Takes the lock for `token` if it is free, expired or already its own.
    pub(crate) fn acquire(&self, store: StoreId, token: Uuid, ttl: Duration) -> bool {
        let mut owners = open(&self.owners);
        let now = Instant::now();
        let free = owners
            .get(&store)
            .is_none_or(|owner| owner.token == token || owner.until <= now);
        // Expired owners stay until their store is locked again: at most one entry a store.
        if free {
            owners.insert(
                store,
                Owner {
                    token,
                    until: now + ttl,
                },
            );
        }
        free
    }

    pub(crate) fn extend(&self, store: StoreId, token: Uuid, ttl: Duration) -> bool {
        let now = Instant::now();
        match open(&self.owners).get_mut(&store) {
            Some(owner) if owner.token == token && owner.until > now => {
                owner.until = now + ttl;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn release(&self, store: StoreId, token: Uuid) -> bool {
        let mut owners = open(&self.owners);
        if owners.get(&store).is_none_or(|owner| owner.token != token) {
            return false;
        }
        owners
            .remove(&store)
            // An expired lock is taken away too, but nobody is told that it was theirs.
            .is_some_and(|owner| owner.until > Instant::now())
    }
}

impl News {
    fn take(&mut self) -> Vec<String> {
        let count = self.order.len().min(MAX_HEARD);
        let jobs: Vec<String> = self.order.drain(..count).collect();
        for job in &jobs {
            // Before they are handed over: whoever rings from now on is heard again.
            self.known.remove(job);
        }
        jobs
    }
}
