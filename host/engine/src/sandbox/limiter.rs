//! The memory of one call: all its memories and tables in one budget.

use wasmtime::ResourceLimiter;

/// Bytes that the runtime keeps for one element of a table.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Counts all memories and tables of one call together. Our own, because the runtime's own limiter counts each memory
/// for itself and does not remember that it refused: a guest that aborts for want of memory looks like any other trap.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    max: usize,
    used: usize,
    refused: bool,
    last_growth: usize,
}

impl MemoryLimiter {
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            max,
            used: 0,
            refused: false,
            last_growth: 0,
        }
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
        let wanted = self.used.saturating_add(by);
        if wanted > self.max {
            // Remembered: the abort that follows looks like any other trap.
            self.refused = true;
            return false;
        }
        self.used = wanted;
        self.last_growth = by;
        true
    }

    /// Takes back a growth that was counted and then failed.
    fn give_back(&mut self) {
        self.refused = true;
        self.used -= std::mem::take(&mut self.last_growth);
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

    #[test]
    fn memories_and_tables_share_one_budget() {
        let mut limiter = MemoryLimiter::new(100_000);
        assert!(limiter.memory_growing(0, 65_536, None).expect("an answer"));
        assert!(limiter.table_growing(0, 1_000, None).expect("an answer"));
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(0, 65_536, None).expect("an answer"));
        assert!(limiter.refused());
        assert_eq!(limiter.peak(), 65_536 + 8_000);
    }

    #[test]
    fn what_was_not_given_is_not_counted() {
        let mut limiter = MemoryLimiter::new(100_000);
        assert!(limiter.memory_growing(0, 65_536, None).expect("an answer"));
        limiter
            .memory_grow_failed(wasmtime::Error::msg("the pool is smaller"))
            .expect("an answer");
        assert_eq!(limiter.peak(), 0);
        assert!(limiter.refused());
    }
}
