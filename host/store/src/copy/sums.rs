//! Comparing two databases: for each table the number of rows, and a sum over them that does not depend on their order.

use sha2::{Digest, Sha256};

use super::walk;
use crate::{
    Ledger, StoreError,
    tables::{catalogue::Known, page::Texts},
};

/// A table in both databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Its name.
    pub table: String,
    /// Rows in the source.
    pub rows: u64,
    /// Rows in the target.
    pub copied: u64,
    /// Whether all values of all rows are the same.
    pub is_same: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    /// The sum of the digests of all rows, each cut to 128 bits: databases order texts differently.
    digests: u128,
}

pub(super) async fn compare(
    source: &Ledger,
    target: &Ledger,
    known: &Known,
) -> Result<Compared, StoreError> {
    let (one, other) = tokio::try_join!(sum(source, known), sum(target, known))?;
    Ok(Compared {
        table: known.table.name.clone(),
        rows: one.rows,
        copied: other.rows,
        is_same: one == other,
    })
}

async fn sum(ledger: &Ledger, known: &Known) -> Result<Sum, StoreError> {
    let mut walk = walk(ledger.backend(), known);
    let (mut sum, mut after) = (Sum::default(), None::<Vec<String>>);
    loop {
        let page = walk
            .page(&mut ledger.read().await?, after.as_deref())
            .await?;
        for row in &page.rows {
            sum.rows += 1;
            sum.digests = sum.digests.wrapping_add(digest(row));
        }
        match page.rows.last() {
            Some(last) if !page.is_last => after = Some(walk.place(last)),
            _ => return Ok(sum),
        }
    }
}

fn digest(row: &Texts) -> u128 {
    let mut digest = Sha256::new();
    for text in row {
        // With its length: "ab", "c" is not "a", "bc". A null is not an empty text.
        match text {
            Some(text) => {
                digest.update((text.len() as u64 + 1).to_be_bytes());
                digest.update(text);
            }
            None => digest.update(0_u64.to_be_bytes()),
        }
    }
    let bytes: [u8; 32] = digest.finalize().into();
    let mut head = [0; 16];
    head.copy_from_slice(&bytes[..16]);
    u128::from_be_bytes(head)
}
