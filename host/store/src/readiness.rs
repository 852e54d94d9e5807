//! Trying whether the database takes writes.

use wharf_domain::Time;

use crate::{Ledger, StoreError, dialect::statements};

statements! {
    // A row that is purged like any other. Its value changes each time: SQLite writes nothing where nothing changes,
    // and then would not notice a full disk.
    WRITE = ["insert into organization_limits (organization_id, operation, spent_until) values ('', 'readiness', $1)
        on conflict (organization_id, operation) do update set spent_until = excluded.spent_until"];
}

impl Ledger {
    /// Tries a write and its commit.
    pub async fn try_write(&self, now: Time) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.query(WRITE).time(now).run().await?;
        tx.commit().await
    }
}
