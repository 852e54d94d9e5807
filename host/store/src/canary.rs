//! The sealed canaries: one row for each key that values of this database may be sealed with, sealed with that key. Who
//! cannot open them all has the wrong key, and is told so before it reads or seals anything.

use wharf_domain::Time;

use crate::{
    Conn, EncryptionKey, KeyId, KeyRing, Ledger, Sealed, StoreError,
    dialect::{Sql, statements},
    endpoints, stores,
};

statements! {
    CANARIES = ["select sealed from key_canaries order by created_at, key_id"];
    ADD = ["insert into key_canaries (key_id, sealed, created_at) values ($1, $2, $3) on conflict (key_id) do nothing"];
    REMOVE = ["delete from key_canaries where key_id = $1"];
    OLDEST_TOKEN = ["select identity, access_token as sealed from stores order by created_at, id limit 1"];
    OLDEST_SECRET = ["select identity, secret as sealed from webhook_endpoints order by id limit 1"];
}

/// One at a time may look whether there are canaries and put them in: of two processes that meet an empty database with
/// different keys, the second must see the first one's. SQLite has one writer anyway.
const LOCK: Sql = Sql {
    postgres: "lock table key_canaries in share row exclusive mode",
    sqlite: "select 1",
};

/// Nobody may remove the canary until the transaction ends; others may hold it too. SQLite has one writer anyway.
const HOLD: Sql = Sql {
    postgres: "select sealed from key_canaries where key_id = $1 for key share",
    sqlite: "select sealed from key_canaries where key_id = $1",
};

const PLACE: &str = "key_canaries.sealed";
const SECRET: &[u8] = b"wharf";

/// The reason why a process must not work on this database.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Values are sealed with keys that were not given.
    #[error(
        "the wrong WHARF_ENCRYPTION_KEY: the database is sealed with key {}, and {} was given. Set WHARF_ENCRYPTION_KEY \
         to the key that it was sealed with; to go over to a new key, set it to `new,old` and run `wharf keys reseal`. \
         `wharf keys status` tells which keys are in use",
        list(missing),
        list(given)
    )]
    Wrong {
        /// The keys that are needed as well.
        missing: Vec<KeyId>,
        /// The keys that were given.
        given: Vec<KeyId>,
    },
    /// The tables are older than this program.
    #[error("the schema is not up to date: run `wharf migrate` first ({0})")]
    Schema(#[source] StoreError),
    /// The database could not be asked, or a canary was changed by hand.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(ids: &[KeyId]) -> String {
    let ids: Vec<String> = ids.iter().map(KeyId::to_string).collect();
    ids.join(", ")
}

#[derive(FromRow)]
struct Row {
    sealed: Vec<u8>,
}

/// A sealed value with what it is bound to.
struct Sample {
    place: &'static str,
    row: String,
    sealed: Sealed,
}

/// Checks that these keys open what the database holds, and puts the canary of the first one in if it is missing: from
/// now on values may be sealed with it. A database from before the canaries is judged by its oldest sealed values.
///
/// # Errors
/// [`KeyError::Wrong`] if a key is missing; then nothing was changed.
pub async fn check(
    ledger: &Ledger,
    keys: &KeyRing,
    nonces: [[u8; 24]; 3],
    now: Time,
) -> Result<(), KeyError> {
    // First without the lock: nearly every start finds all in place and waits for nobody.
    let found = canaries(&mut ledger.read().await?).await.map_err(schema)?;
    verify(keys, &found)?;
    if is_complete(keys, &found) {
        return Ok(());
    }
    let mut tx = ledger.begin().await?;
    tx.query(LOCK).run().await?;
    // Again behind the lock: another process may have been here since.
    let mut found = canaries(&mut tx).await?;
    verify(keys, &found)?;
    if found.is_empty() {
        found = samples(&mut tx).await?;
        verify_samples(keys, &found)?;
    }
    // At most two samples beside the first key. A canary that is there already stays.
    let in_use = found.iter().filter_map(|one| keys.key_of(&one.sealed));
    for (key, nonce) in std::iter::once(keys.first()).chain(in_use).zip(nonces) {
        put(&mut tx, key, nonce, now).await?;
    }
    Ok(tx.commit().await?)
}

/// The keys that are needed to open what this database holds; empty where nothing is sealed.
pub async fn needed(conn: &mut Conn) -> Result<Vec<KeyId>, KeyError> {
    let mut found = canaries(conn).await.map_err(schema)?;
    if found.is_empty() {
        found = samples(conn).await?;
    }
    let mut ids: Vec<KeyId> = found.iter().filter_map(|one| one.sealed.key_id()).collect();
    // Neighbours are enough: each canary has a key of its own, and there are two samples at most.
    ids.dedup();
    Ok(ids)
}

/// Forgets that values were sealed with this key. Those that are left cannot be read by processes without it. Returns
/// false if it was not known.
pub async fn remove(conn: &mut Conn, key: KeyId) -> Result<bool, StoreError> {
    Ok(conn.query(REMOVE).bind(&key.0[..]).run().await? > 0)
}

/// Puts the canary of the first key in, whatever the others say.
pub async fn add(
    conn: &mut Conn,
    keys: &KeyRing,
    nonce: [u8; 24],
    now: Time,
) -> Result<(), StoreError> {
    put(conn, keys.first(), nonce, now).await
}

/// Holds the canary of the first key until the transaction ends, and puts it back if it is gone. In every transaction that
/// seals a value: a key that a host still seals with, though others think it retired, is needed again from then on.
pub async fn hold(
    conn: &mut Conn,
    keys: &KeyRing,
    nonce: [u8; 24],
    now: Time,
) -> Result<(), StoreError> {
    let query = conn.query(HOLD).bind(&keys.first().id().0[..]);
    let held: Option<Row> = query.optional().await?;
    match held {
        Some(_) => Ok(()),
        None => put(conn, keys.first(), nonce, now).await,
    }
}

async fn put(
    conn: &mut Conn,
    key: &EncryptionKey,
    nonce: [u8; 24],
    now: Time,
) -> Result<(), StoreError> {
    let sealed = key.seal(PLACE, &key.id().to_string(), SECRET, nonce);
    let query = conn.query(ADD).bind(&key.id().0[..]).bind(sealed.0);
    query.time(now).run().await.map(drop)
}

async fn canaries(conn: &mut Conn) -> Result<Vec<Sample>, StoreError> {
    let rows: Vec<Row> = conn.query(CANARIES).all().await?;
    let sample = |row: Row| {
        let sealed = Sealed(row.sealed);
        let row = sealed.key_id().map(|id| id.to_string()).unwrap_or_default();
        Sample {
            place: PLACE,
            row,
            sealed,
        }
    };
    Ok(rows.into_iter().map(sample).collect())
}

/// The oldest value of each kind: what was sealed last may have been sealed with a wrong key already.
async fn samples(conn: &mut Conn) -> Result<Vec<Sample>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        identity: String,
        sealed: Vec<u8>,
    }
    let mut found = Vec::new();
    for (statement, place) in [
        (OLDEST_TOKEN, stores::TOKEN_PLACE),
        (OLDEST_SECRET, endpoints::SECRET),
    ] {
        let row: Option<Row> = conn.query(statement).optional().await?;
        found.extend(row.map(|row| Sample {
            place,
            row: row.identity,
            sealed: Sealed(row.sealed),
        }));
    }
    Ok(found)
}

fn is_complete(keys: &KeyRing, canaries: &[Sample]) -> bool {
    let first = Some(keys.first().id());
    canaries.iter().any(|one| one.sealed.key_id() == first)
}

/// Every canary opens.
fn verify(keys: &KeyRing, canaries: &[Sample]) -> Result<(), KeyError> {
    // Missing keys first: of the two errors this one says what to set.
    refuse(keys, canaries)?;
    canaries.iter().try_for_each(|one| one.open(keys))
}

/// One of the samples opens. Not all need to: a value that was sealed with a key that is lost must not keep a host from
/// starting for ever.
fn verify_samples(keys: &KeyRing, samples: &[Sample]) -> Result<(), KeyError> {
    if samples.is_empty() || samples.iter().any(|one| one.open(keys).is_ok()) {
        return Ok(());
    }
    verify(keys, samples)
}

/// Refuses if a value was sealed with a key that is not given.
fn refuse(keys: &KeyRing, found: &[Sample]) -> Result<(), KeyError> {
    let ids = found.iter().filter_map(|one| one.sealed.key_id());
    let mut missing: Vec<KeyId> = ids.filter(|id| !keys.holds(*id)).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    Err(KeyError::Wrong {
        missing,
        given: keys.ids().collect(),
    })
}

impl Sample {
    fn open(&self, keys: &KeyRing) -> Result<(), KeyError> {
        keys.open(self.place, &self.row, &self.sealed)?;
        Ok(())
    }
}

/// A table that does not exist is a schema that is older than this program.
fn schema(error: StoreError) -> KeyError {
    match &error {
        StoreError::Defect(sqlx::Error::Database(refusal))
            // PostgreSQL has a code for a table that is not there, SQLite has the words alone.
            if refusal.code().as_deref() == Some("42P01")
                || refusal.message().starts_with("no such table") =>
        {
            KeyError::Schema(error)
        }
        _ => KeyError::Store(error),
    }
}
