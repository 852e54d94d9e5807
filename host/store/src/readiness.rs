//! Trying whether the database takes writes, without leaving anything.

use crate::{Ledger, StoreError, dialect::statements};

statements! {
    /// Touches no row. A standby and a database that is set to read-only refuse it all the same.
    WRITE_NOTHING = ["update organization_limits set operation = operation where organization_id = ''"];
}

impl Ledger {
    /// Tries a write, and takes it back. SQLite is asked for its only writer, PostgreSQL for a transaction that may write.
    pub async fn try_write(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.query(WRITE_NOTHING).run().await?;
        // Dropped without a commit, the transaction is rolled back.
        Ok(())
    }
}
