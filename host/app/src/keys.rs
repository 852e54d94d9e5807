//! Rotation of the host's key: every sealed value moves to the first key of the ring, while hosts go on working.

use std::collections::BTreeMap;

use uuid::Uuid;
use wharf_domain::Time;
use wharf_store::{
    KeyId, KeyRing, Ledger, StoreError, canary,
    reseal::{self, Kind, SealedCount, Table},
    stores::token,
};

use crate::{entropy::random, failpoint};

/// Rows of one transaction. Hosts wait for its locks no longer than for a batch of imports.
const ROWS_PER_PAGE: i64 = 100;
/// Walks over the tables. What a running host seals with another key during the last one is left, and reported.
const MAX_WALKS: usize = 3;

/// A report on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResealProgress {
    /// Rows looked at.
    pub rows: u64,
    /// Rows there were at the beginning.
    pub of: u64,
}

/// The result of sealing anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Rows whose values were sealed anew.
    pub rows: u64,
    /// Rows that no given key opens, by the key that sealed them. They stay as they are.
    pub unreadable: BTreeMap<Option<KeyId>, u64>,
    /// Values that are still sealed with another key of the ring: a running host went on sealing with it.
    pub remaining: u64,
    /// Sync tokens that still stand in the clear: a program of before went on registering stores.
    pub in_clear: i64,
    /// Keys that nothing is sealed with any more. They may leave the ring.
    pub retired: Vec<KeyId>,
}

/// Checks that these keys are the database's; every process does so before it starts.
///
/// # Errors
/// If they are not, or the database cannot be asked.
pub async fn check_keys(
    ledger: &Ledger,
    keys: &KeyRing,
    now: Time,
) -> Result<(), canary::KeyError> {
    canary::check(ledger, keys, [random(), random(), random()], now).await
}

/// Gives a lost key up: processes start without it from now on. What it sealed cannot be read any more; a store gets a
/// new token when it is registered again, a webhook a new secret when it is rotated. Returns false if the database does
/// not know the key.
///
/// # Errors
/// If the database cannot be asked.
pub async fn abandon_key(
    ledger: &Ledger,
    keys: &KeyRing,
    lost: KeyId,
    now: Time,
) -> Result<bool, canary::KeyError> {
    let mut tx = ledger.begin().await?;
    if !canary::needed(&mut tx).await?.contains(&lost) {
        return Ok(false);
    }
    canary::remove(&mut tx, lost).await?;
    canary::add(&mut tx, keys, random(), now).await?;
    tx.commit().await?;
    tracing::warn!(key = %lost, "key_abandoned");
    Ok(true)
}

/// Seals every value anew with the first key. Safe to stop, to repeat and to run beside hosts that hold that key.
///
/// # Errors
/// If the database cannot be asked; what was done until then stays done.
pub async fn reseal(
    ledger: &Ledger,
    keys: &KeyRing,
    mut progress: impl FnMut(ResealProgress) + Send,
) -> Result<Resealed, StoreError> {
    let of = rows(&reseal::counts(&mut ledger.read().await?).await?);
    // Before any token is hidden: programs that would not find its store must not start from now on.
    token::hide(&mut ledger.write().await?).await?;
    let mut done = Resealed::default();
    for _ in 0..MAX_WALKS {
        let mut reached = ResealProgress { rows: 0, of };
        // Counted anew by each walk: a row that no key opens is met by all of them.
        done.unreadable.clear();
        for table in [Table::Stores, Table::Endpoints] {
            walk(ledger, keys, table, &mut done, |rows| {
                reached.rows += rows;
                progress(reached);
            })
            .await?;
        }
        // Counted after the walk: a host that runs beside it may have sealed with another key behind its back.
        let counts = reseal::counts(&mut ledger.read().await?).await?;
        done.remaining = remaining(&counts, keys);
        done.in_clear = token::in_clear(&mut ledger.read().await?).await?;
        if done.remaining == 0
            && let Some(retired) = retire(ledger, keys).await?
        {
            done.retired = retired;
            break;
        }
    }
    Ok(done)
}

async fn walk(
    ledger: &Ledger,
    keys: &KeyRing,
    table: Table,
    done: &mut Resealed,
    mut reached: impl FnMut(u64) + Send,
) -> Result<(), StoreError> {
    let mut after = Uuid::nil();
    loop {
        let place = (table, after);
        let mut conn = ledger.read().await?;
        // Read and sealed with no transaction open: the write below replaces only what still is as it was read.
        let page = reseal::read(&mut conn, keys, place, ROWS_PER_PAGE, random).await?;
        drop(conn);
        let Some(last) = page.last else {
            return Ok(());
        };
        let mut tx = ledger.begin().await?;
        let changed = reseal::write(&mut tx, &page).await?;
        failpoint::pass("reseal.commit.before");
        tx.commit().await?;
        failpoint::pass("reseal.commit.after");
        done.rows += changed;
        for (key, rows) in page.unreadable {
            *done.unreadable.entry(key).or_default() += rows;
        }
        reached(page.rows as u64);
        // Past rows that no key opens, too: they are reported, and must not hold up the rest.
        after = last;
    }
}

/// Takes the canaries of all keys but the first away; `None` if a value was sealed with one of them meanwhile.
async fn retire(ledger: &Ledger, keys: &KeyRing) -> Result<Option<Vec<KeyId>>, StoreError> {
    let first = keys.first().id();
    let mut tx = ledger.begin().await?;
    let mut retired = Vec::new();
    // The first key stays though nothing may be sealed with it yet: the next value will be.
    for id in keys.ids().filter(|id| *id != first) {
        if canary::remove(&mut tx, id).await? {
            retired.push(id);
        }
    }
    // Counted behind the removal, which waits for whoever is sealing: who comes later puts the canary back.
    let counts = reseal::counts(&mut tx).await?;
    let in_use = counts.iter().filter(|count| count.kind.is_sealed());
    let mut keys_in_use = in_use.filter_map(|count| count.key);
    if keys_in_use.any(|key| key != first && keys.holds(key)) {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(retired))
}

/// The rows that hold sealed values: each has one of the values that are counted here.
fn rows(counts: &[SealedCount]) -> u64 {
    let of_rows = counts
        .iter()
        .filter(|count| matches!(count.kind, Kind::AccessToken | Kind::Secret));
    of_rows.map(|count| count.number).sum()
}

fn remaining(counts: &[SealedCount], keys: &KeyRing) -> u64 {
    let others = counts.iter().filter(|count| count.is_to_be_resealed(keys));
    others.map(|count| count.number).sum()
}
