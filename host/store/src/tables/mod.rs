//! All tables at once, for what must not forget any: copying a database, exporting, purging.
//!
//! What there is comes from the database itself ([`catalogue`]); what it means stands in the [`register`], and a test fails
//! where the two differ.

pub(crate) mod catalogue;
mod exported;
pub(crate) mod kind;
pub(crate) mod page;
mod register;

pub(crate) use self::exported::{Exported, Form, TOP, all as exported};
pub use self::register::PURGED;
pub(crate) use self::register::SEEDED;

use crate::{Ledger, StoreError};

/// Holds the register against the tables of these two databases, one of each kind: every table and every exported table's
/// column is named in it, once, as it is in both. For tests.
///
/// # Errors
/// Names all that differs.
#[doc(hidden)]
pub async fn check_register(postgres: &Ledger, sqlite: &Ledger) -> Result<(), StoreError> {
    let postgres = catalogue::read(&mut postgres.read().await?).await?;
    let sqlite = catalogue::read(&mut sqlite.read().await?).await?;
    let known = catalogue::agree(&postgres, &sqlite)?;
    register::check(&known)
        .map_err(|wrong| StoreError::unreadable("the register", wrong.join("; ")))
}
