//! The memory of one call, all its memories and tables in one budget, and of all calls together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

/// Bytes that the runtime keeps for one element of a table.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// This part of all memory is for calls that hold little ...
const RESERVED_PART: usize = 8;
/// ... namely no more than this part: a few hoarders must not keep everybody's next call from beginning.
const SMALL_PART: usize = 64;

/// The memory of all guests of this host: a growth beyond it is refused before the machine begins to swap.
#[derive(Debug)]
pub(crate) struct MemoryTotal {
    max: usize,
    used: AtomicUsize,
    refusals: AtomicU64,
}

impl MemoryTotal {
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            max,
            used: AtomicUsize::new(0),
            refusals: AtomicU64::new(0),
        }
    }

    /// Returns the growths that were refused so far.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Takes so many bytes for a call that would hold so many then.
    fn take(&self, bytes: usize, held: usize) -> bool {
        let is_small = held <= self.max / SMALL_PART;
        let reserved = if is_small {
            0
        } else {
            self.max / RESERVED_PART
        };
        // Relaxed: the count protects no other data.
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes)
                    .filter(|sum| *sum <= self.max - reserved)
            });
        if taken.is_err() {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts all memories and tables of one call together. Our own, because the runtime's own limiter counts each memory
/// for itself and does not remember that it refused: a guest that aborts for want of memory looks like any other trap.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    max: usize,
    used: usize,
    refused: bool,
    total: Arc<MemoryTotal>,
    refused_by_host: bool,
    last_growth: usize,
}

impl MemoryLimiter {
    pub(crate) const fn new(max: usize, total: Arc<MemoryTotal>) -> Self {
        Self {
            max,
            used: 0,
            refused: false,
            total,
            refused_by_host: false,
            last_growth: 0,
        }
    }

    /// Tells if the guest was refused memory that it may have, because all guests together have the most.
    pub(crate) const fn refused_by_host(&self) -> bool {
        self.refused_by_host
    }

    /// Tells if the guest ever wanted more than its limit.
    pub(crate) const fn refused(&self) -> bool {
        self.refused
    }

    /// Returns the peak, in bytes. Guests cannot give memory back, so it is what was counted last.
    pub(crate) const fn peak(&self) -> usize {
        self.used
    }

    fn grow(&mut self, by: usize) -> bool {
        // Its own limit first: a guest that is greedy must not look like a host that is full.
        let wanted = self.used.saturating_add(by);
        if wanted > self.max {
            // Remembered: the abort that follows looks like any other trap.
            self.refused = true;
            return false;
        }
        if !self.total.take(by, wanted) {
            self.refused_by_host = true;
            return false;
        }
        self.used = wanted;
        self.last_growth = by;
        true
    }

    /// Takes back a growth that was counted and then failed.
    fn give_back(&mut self) {
        self.refused = true;
        let growth = std::mem::take(&mut self.last_growth);
        self.used -= growth;
        self.total.give_back(growth);
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.total.give_back(self.used);
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(
            desired
                .saturating_sub(current)
                // A guest may ask for any number of elements: an overflow would wrap to a small growth.
                .saturating_mul(TABLE_ELEMENT_BYTES),
        ))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unlimited() -> Arc<MemoryTotal> {
        Arc::new(MemoryTotal::new(usize::MAX))
    }

    #[test]
    fn memories_and_tables_share_one_budget() {
        let mut limiter = MemoryLimiter::new(100_000, unlimited());
        assert!(limiter.memory_growing(0, 65_536, None).expect("an answer"));
        assert!(limiter.table_growing(0, 1_000, None).expect("an answer"));
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(0, 65_536, None).expect("an answer"));
        assert!(limiter.refused());
        assert_eq!(limiter.peak(), 65_536 + 8_000);
    }

    #[test]
    fn what_was_not_given_is_not_counted() {
        let total = unlimited();
        let mut limiter = MemoryLimiter::new(100_000, total.clone());
        assert!(limiter.memory_growing(0, 65_536, None).expect("an answer"));
        limiter
            .memory_grow_failed(wasmtime::Error::msg("the pool is smaller"))
            .expect("an answer");
        assert_eq!(limiter.peak(), 0);
        assert!(limiter.refused());
        assert_eq!(total.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn hoarders_leave_something_to_small_calls() {
        let total = Arc::new(MemoryTotal::new(6_400_000));
        let mut hoarders: Vec<_> = (0..70)
            .map(|_| MemoryLimiter::new(usize::MAX, total.clone()))
            .collect();
        let grow = |hoarder: &mut MemoryLimiter| {
            let grown = hoarder.memory_growing(0, 200_000, None);
            grown.expect("an answer")
        };
        assert_eq!(
            hoarders
                .iter_mut()
                .filter_map(|one| grow(one).then_some(()))
                .count(),
            28
        );
        let mut small = MemoryLimiter::new(usize::MAX, total);
        assert!(small.memory_growing(0, 100_000, None).expect("an answer"));
    }

    #[test]
    fn all_guests_share_a_total_and_give_it_back() {
        let total = Arc::new(MemoryTotal::new(100_000));
        let mut first = MemoryLimiter::new(80_000, total.clone());
        let mut second = MemoryLimiter::new(80_000, total.clone());
        assert!(first.memory_growing(0, 65_536, None).expect("an answer"));
        assert!(!second.memory_growing(0, 65_536, None).expect("an answer"));
        assert!(second.refused_by_host() && !second.refused());
        assert_eq!(total.refusals(), 1);
        drop(first);
        assert!(second.memory_growing(0, 65_536, None).expect("an answer"));
        drop(second);
        assert_eq!(total.used.load(Ordering::Relaxed), 0);
    }
}
