//! The clock of the fleet: the database server's, as this process sees it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use wharf_domain::{Clock, SystemClock, Time};

use crate::{Backend, Conn, Ledger, StoreError, dialect::Sql, values::At};

/// Machines' clocks drift apart by a few milliseconds a minute at worst, which leases of seconds do not notice.
const SET_CLOCK_EVERY: Duration = Duration::from_secs(60);

impl Ledger {
    /// The clock that leases and due times are kept by: the database server's, as this process sees it, so that
    /// processes whose own clocks disagree still agree. SQLite is on this machine and uses its clock.
    ///
    /// Call it inside a tokio runtime: the clock is set anew every minute, for as long as somebody holds it.
    pub async fn clock(&self) -> Result<Arc<dyn Clock>, StoreError> {
        if self.backend() == Backend::Sqlite {
            return Ok(Arc::new(SystemClock));
        }
        let clock = Arc::new(ServerClock {
            began_micros: AtomicI64::new(self.began_micros().await?),
        });
        let (ledger, watched) = (self.clone(), Arc::downgrade(&clock));
        tokio::spawn(keep_set(ledger, watched));
        Ok(clock)
    }

    /// Measures what the server's clock showed when [`SystemClock::elapsed`] was zero.
    async fn began_micros(&self) -> Result<i64, StoreError> {
        let mut conn = self.read().await?;
        let (mut began, mut quickest) = (0, Duration::MAX);
        // The quickest of three answers: the error is at most half of what it took.
        for _ in 0..3 {
            let before = SystemClock.elapsed();
            let there = conn.server_time().await?;
            let took = SystemClock.elapsed().saturating_sub(before);
            if took < quickest {
                quickest = took;
                began = (there - (before + took / 2)).as_micros();
            }
        }
        Ok(began)
    }
}

/// The database server's clock as we last saw it, carried on by time that nobody can set: a step of this machine's own
/// clock is not noticed here at all.
struct ServerClock {
    began_micros: AtomicI64,
}

impl Clock for ServerClock {
    fn now(&self) -> Time {
        Time::from_micros(self.began_micros.load(Ordering::Relaxed)) + self.elapsed()
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed()
    }
}

/// Sets the clock anew every minute until nobody holds it.
async fn keep_set(ledger: Ledger, watched: Weak<ServerClock>) {
    loop {
        tokio::time::sleep(SET_CLOCK_EVERY).await;
        let Some(clock) = watched.upgrade() else {
            return;
        };
        // A server that does not answer now is asked again; the clock goes on meanwhile.
        if let Ok(began) = ledger.began_micros().await {
            clock.began_micros.store(began, Ordering::Relaxed);
        }
    }
}

impl Conn {
    async fn server_time(&mut self) -> Result<Time, StoreError> {
        const NOW: Sql = Sql {
            postgres: "select clock_timestamp() as at",
            // Never asked: SQLite goes by the machine's clock (see `clock`).
            sqlite: "select cast(unixepoch('subsec') * 1000000 as integer) as at",
        };
        let (At(now),) = self.query(NOW).one().await?;
        Ok(now)
    }
}
