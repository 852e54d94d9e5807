//! The store lock: `lock:sync-store:{storeId}`, held by whoever knows its random token.
//!
//! It saves work and proves nothing. A worker may lose it without noticing (a pause longer than the time to live, a
//! flushed Redis, a failover), and then two workers run one store. That is harmless: every transaction of a sync job
//! checks the fence of its claim in the database, and the worker that was taken over writes nothing. For the same
//! reason a worker goes on when the lock cannot be asked for ([`Acquired::Unavailable`]).

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::Script;
use uuid::Uuid;
use wharf_domain::StoreId;

use crate::{Error, local, remote};

/// Set if absent, with expiry. Finding one's own token counts as success, so that asking again after a lost answer
/// is safe.
static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local owner = redis.call('get', KEYS[1])
         if owner and owner ~= ARGV[1] then return 0 end
         redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
         return 1",
    )
});

static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        // One script, here and below: between two commands the lock may become another's.
        "if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
         return redis.call('pexpire', KEYS[1], ARGV[2])",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
         return redis.call('del', KEYS[1])",
    )
});

/// The store locks; see [`Doorbell::lock`](crate::Doorbell::lock).
#[derive(Clone, Debug)]
pub struct Lock(Keeper);

#[derive(Clone, Debug)]
pub(crate) enum Keeper {
    Local(Arc<local::Bell>),
    Redis(Arc<remote::Bell>),
}

/// The answer to a request for a lock.
#[derive(Debug)]
pub enum Acquired {
    /// The lock is ours until it expires or is released.
    Held(Guard),
    /// Somebody else is busy with this store; there is nothing to do.
    Busy,
    /// Redis did not answer within a second. It is safe to go on without the lock: the fence in the database decides.
    Unavailable(Error),
}

/// A lock that was acquired. Dropping it releases nothing: the lock then ends with its time to live, as it does when
/// the process dies.
#[derive(Debug)]
pub struct Guard {
    keeper: Keeper,
    store: StoreId,
    token: Uuid,
}

impl Lock {
    pub(crate) fn new(keeper: Keeper) -> Self {
        Self(keeper)
    }

    /// Asks for the lock of `store` for `ttl` (at least a millisecond). Does not wait for an owner to finish.
    pub async fn acquire(&self, store: StoreId, ttl: Duration) -> Acquired {
        let guard = Guard {
            keeper: self.0.clone(),
            store,
            // Random: whoever does not know it can neither extend nor release the lock.
            token: Uuid::new_v4(),
        };
        let ours = match &guard.keeper {
            Keeper::Local(bell) => Ok(bell.acquire(store, guard.token, ttl)),
            Keeper::Redis(bell) => guard.run(bell, &ACQUIRE, ttl).await,
        };
        match ours {
            Ok(true) => Acquired::Held(guard),
            Ok(false) => Acquired::Busy,
            Err(error) => Acquired::Unavailable(error),
        }
    }
}

impl Guard {
    /// Makes the lock last `ttl` from now. `false` if it is no longer ours: stop working on the store.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis did not answer within a second; go on and rely on the fence.
    pub async fn extend(&self, ttl: Duration) -> Result<bool, Error> {
        match &self.keeper {
            Keeper::Local(bell) => Ok(bell.extend(self.store, self.token, ttl)),
            Keeper::Redis(bell) => self.run(bell, &EXTEND, ttl).await,
        }
    }

    /// Gives the lock back, if it is still ours; `false` if it was not, which needs no action.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis did not answer within a second; the lock then ends with its time to live.
    pub async fn release(self) -> Result<bool, Error> {
        match &self.keeper {
            Keeper::Local(bell) => Ok(bell.release(self.store, self.token)),
            // The script reads no time to live.
            Keeper::Redis(bell) => self.run(bell, &RELEASE, Duration::ZERO).await,
        }
    }

    async fn run(
        &self,
        bell: &remote::Bell,
        script: &Script,
        ttl: Duration,
    ) -> Result<bool, Error> {
        // Redis refuses an expiry of zero.
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut call = script.key(bell.lock_key(self.store));
        bell.run(call.arg(self.token.to_string()).arg(ttl_ms)).await
    }
}
