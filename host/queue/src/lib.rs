//! The doorbell and the store lock: the news that there is work, and the courtesy of not doing it twice.
//!
//! The database is the queue. Work is committed there, claimed there and settled there behind a fence; this crate only
//! makes workers look sooner than their next poll, spreads the looking over them, and saves them from starting on a
//! store that somebody else is busy with. So everything here may be lost without losing work:
//!
//! - a ring that does not arrive costs at most one poll interval (one second), never a job;
//! - a lock that cannot be asked for costs a wasted attempt, which the fence in the database refuses.
//!
//! Promises, the same for both backends and held by one test suite: [`Doorbell::ring`] never waits; a job rings once
//! while its news waits to be heard, and again after that; each piece of news goes to one [`Listener`]; news that came
//! before anybody listened is kept; a cancelled [`Listener::wait`] loses nothing; an owner whose lock has expired can
//! neither extend nor release the lock of the next one. With Redis down, nothing fails: rings are counted as failed,
//! waits time out, locks answer [`Acquired::Unavailable`], and all of it resumes by itself.
//!
//! Left out on purpose: retries, delays, priorities, payloads and acknowledgement of jobs. They belong to the database.

mod listen;
mod local;
mod lock;
mod remote;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub use lock::{Acquired, Guard, Lock};

/// Pieces of news that one [`Listener::wait`] returns. Few, so that a burst wakes several workers and not only the
/// first.
pub(crate) const MAX_HEARD: usize = 16;

/// Pieces of news that are kept per queue, about. Beyond it the workers have enough reason to look.
pub(crate) const MAX_KEPT: usize = 10_000;

/// The two kinds of work that somebody can be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Stores whose logs are due for another try.
    SyncStore,
    /// Events and deliveries that are due to be sent.
    Callback,
}

impl Queue {
    /// Every queue.
    pub const ALL: [Self; 2] = [Self::SyncStore, Self::Callback];

    /// The name that operators know it by; it is the name of the Redis stream as well.
    pub fn name(self) -> &'static str {
        match self {
            Self::SyncStore => "sync-store-queue",
            Self::Callback => "callback-queue",
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The failures of a doorbell or a lock.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of Redis is malformed or names something that this build cannot speak to.
    #[error("the Redis address cannot be used")]
    Address(#[source] redis::RedisError),
    /// Redis did not do what was asked within its time. Work goes on through the database.
    #[error("Redis does not answer")]
    Unavailable(#[source] redis::RedisError),
}

/// The names of a doorbell in Redis.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this process within the consumer group, as operators see it in `XINFO CONSUMERS`. Redis remembers every
    /// name for ever, so let it be stable (a host or replica name, not a process id). It may be shared: no message is
    /// ever assigned to a name.
    pub consumer: String,
    /// Put before every key, for installations that share one Redis. Empty by default.
    pub key_prefix: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consumer: "wharf".into(),
            key_prefix: String::new(),
        }
    }
}

/// The end of a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Somebody rang for these jobs: at least one, at most 16. They are hints, and what is due stands in the database.
    Rung(Vec<String>),
    /// Nobody rang in time. Look all the same.
    Timeout,
}

/// Counts since the doorbell was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of [`Doorbell::ring`].
    pub rings: u64,
    /// Rings that were given up because Redis was away, stalled or full. The polls of the workers make up for them.
    pub ring_failures: u64,
    /// Times that a connection to Redis worked again, or a consumer group was made again, after it had failed.
    pub reconnects: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    rings: AtomicU64,
    ring_failures: AtomicU64,
    reconnects: AtomicU64,
}

impl Tally {
    pub(crate) fn failed(&self, rings: usize) {
        // Relaxed, as everywhere here: nothing is decided by these counts.
        self.ring_failures.fetch_add(rings as u64, Relaxed);
    }

    pub(crate) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Relaxed);
    }
}

/// Tells workers that there is work. Cheap to clone; all clones are the same doorbell.
#[derive(Clone, Debug)]
pub struct Doorbell {
    backend: Backend,
    tally: Arc<Tally>,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(Arc<local::Bell>),
    Redis(Arc<remote::Bell>),
}

impl Doorbell {
    /// A doorbell that is heard within this process only.
    pub fn in_process() -> Self {
        Self {
            backend: Backend::Local(Arc::default()),
            tally: Arc::default(),
        }
    }

    /// A doorbell that is heard by every process on the same Redis, for example `redis://127.0.0.1:6379`.
    ///
    /// Returns at once and connects in the background, again and again while Redis is away: a service must start
    /// without it. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`] for a malformed address; never because Redis is down.
    pub fn connect(redis_url: &str, settings: Settings) -> Result<Self, Error> {
        let tally = Arc::<Tally>::default();
        let bell = remote::Bell::connect(redis_url, settings, Arc::clone(&tally))
            .map_err(Error::Address)?;
        Ok(Self {
            backend: Backend::Redis(Arc::new(bell)),
            tally,
        })
    }

    /// Tells one worker that `job_id` waits on `queue`. To be called after the commit that made it so.
    ///
    /// Never waits and never fails: with Redis the ring goes into a bounded inbox that a background task empties, so a
    /// stalled Redis cannot hold up the request that rang. When the inbox is full or Redis refuses, the ring is counted
    /// as failed and the next poll finds the work.
    pub fn ring(&self, queue: Queue, job_id: &str) {
        self.tally.rings.fetch_add(1, Relaxed);
        match &self.backend {
            Backend::Local(bell) => bell.ring(queue, job_id),
            Backend::Redis(bell) => bell.ring(queue, job_id, &self.tally),
        }
    }

    /// Waits until the rings made so far have left this process or failed, at most `max`. For programs that end after
    /// ringing, such as a scheduler that runs once. Answers whether the inbox was emptied in time.
    pub async fn flush(&self, max: Duration) -> bool {
        match &self.backend {
            Backend::Local(_) => true,
            Backend::Redis(bell) => bell.flush(max).await,
        }
    }

    /// An ear for one queue. Have one per worker, made before its first look into the database.
    pub fn listener(&self, queue: Queue) -> Listener {
        Listener(match &self.backend {
            Backend::Local(bell) => Ear::Local(Arc::clone(bell), queue),
            Backend::Redis(bell) => Ear::Redis(listen::Reader::new(
                Arc::clone(bell),
                queue,
                Arc::clone(&self.tally),
            )),
        })
    }

    /// The locks that live beside this doorbell.
    pub fn lock(&self) -> Lock {
        Lock::new(match &self.backend {
            Backend::Local(bell) => lock::Keeper::Local(Arc::clone(bell)),
            Backend::Redis(bell) => lock::Keeper::Redis(Arc::clone(bell)),
        })
    }

    /// Checks that the backend answers within a second. In process it always does.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; the service is slower then, not broken.
    pub async fn ping(&self) -> Result<(), Error> {
        match &self.backend {
            Backend::Local(_) => Ok(()),
            Backend::Redis(bell) => bell.ping().await,
        }
    }

    /// The counts so far, over all clones and listeners.
    pub fn counters(&self) -> Counters {
        Counters {
            rings: self.tally.rings.load(Relaxed),
            ring_failures: self.tally.ring_failures.load(Relaxed),
            reconnects: self.tally.reconnects.load(Relaxed),
        }
    }
}

/// One worker's ear at one queue; see [`Doorbell::listener`].
#[derive(Debug)]
pub struct Listener(Ear);

#[derive(Debug)]
enum Ear {
    Local(Arc<local::Bell>, Queue),
    Redis(listen::Reader),
}

impl Listener {
    /// Waits until somebody rings, at most `max`. With Redis away it takes the whole of `max`, so that a caller who
    /// looks into the database after every wait keeps polling. Safe to cancel: what was heard meanwhile comes with the
    /// next wait.
    pub async fn wait(&mut self, max: Duration) -> Woken {
        let heard = match &mut self.0 {
            Ear::Local(bell, queue) => tokio::time::timeout(max, bell.hear(*queue)).await,
            // The reader ends by itself about then; the timeout holds also for a reader that does not.
            Ear::Redis(reader) => tokio::time::timeout(max, reader.hear(max)).await,
        };
        heard.map_or(Woken::Timeout, Woken::Rung)
    }
}
