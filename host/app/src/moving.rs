//! Moving to another database: a copy of all that there is, compared at the end.

use wharf_domain::Time;
use wharf_store::{
    KeyRing, Ledger, canary,
    copy::{Compared, Copy, CopyError},
};

use crate::{check_keys, failpoint};

/// A report on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyProgress<'a> {
    /// So many rows are in the target, those of an earlier attempt included; the last ones of this table.
    Copied {
        /// The table.
        table: &'a str,
        /// Rows of all tables.
        rows: u64,
    },
    /// A table was read in both databases.
    Compared(&'a Compared),
}

/// The reason why a database was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// It must not be copied, or could not be.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The keys are not those that its values are sealed with.
    #[error(transparent)]
    Keys(#[from] canary::KeyError),
}

/// Copies everything from one database into an empty one of the other kind, and compares them. Safe to stop and to repeat: it
/// goes on where it was stopped. Where a table is not the same in the end, processes go on refusing the target.
///
/// # Errors
/// If it must not be, or a database cannot be asked; what was copied until then stays.
pub async fn copy(
    source: &Ledger,
    target: &Ledger,
    name: &str,
    keys: &KeyRing,
    now: Time,
    mut progress: impl FnMut(CopyProgress<'_>) + Send,
) -> Result<Vec<Compared>, MoveError> {
    // First: with other keys nothing that is sealed could be read in the target.
    check_keys(source, keys, now).await?;
    let mut copy = Copy::begin(source, target, name).await?;
    let mut rows = copy.resumed;
    while let Some(batch) = copy.read().await? {
        let mut tx = copy.begin_batch().await.map_err(CopyError::from)?;
        batch.write(&mut tx).await?;
        failpoint::pass("copy.commit.before");
        tx.commit().await.map_err(CopyError::from)?;
        failpoint::pass("copy.commit.after");
        rows += batch.rows();
        progress(CopyProgress::Copied {
            table: batch.table(),
            rows,
        });
        copy.reached(batch);
    }
    let compared = copy
        .compare(|table| progress(CopyProgress::Compared(table)))
        .await
        .map_err(CopyError::from)?;
    if compared.iter().all(|table| table.is_same) {
        // The sealed canaries came along: what opens them opens all the rest.
        check_keys(target, keys, now).await?;
        copy.finish().await?;
    }
    Ok(compared)
}
