//! How a store's `syncToken` is kept: by a digest, which finds the store, and encrypted, for the next registration, which
//! answers the same token. A copy of the database tells neither.
//!
//! The digest is a plain SHA-256 and has no key: a token is 122 random bits of the host's own, so there is nothing to guess
//! from, and the rotation of keys touches no look-up. Its first half stands where programs of before had the token itself,
//! under the index that is there anyway: one statement finds rows of either form.
//!
//! Programs of before do not find such rows. So tokens are hidden only where none of them works: in a database that had no
//! store when its schema was made, and in any other from the first `wharf keys reseal` on. Both leave a mark among the
//! migrations, by the name of which programs of before refuse to start (see `schema`).

use sha2::{Digest, Sha256};
use uuid::Uuid;
use wharf_domain::SyncToken;

use crate::{Conn, KeyRing, Sealed, StoreError, dialect::statements};

statements! {
    ARE_HIDDEN = ["select count(*) as number from _sqlx_migrations where version = 1000015"];
    // No migration has such a number: it is the step that operators start after the fifteenth.
    HIDE = ["insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        select 1000015, 'contract 0015 sync tokens are kept as digests', 1 = 1, '', 0
        where 1 = 1 on conflict (version) do nothing"];
    // Two programs that start on an empty database may both come here.
    HIDE_IN_NEW = ["insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        select 1000015, 'contract 0015 sync tokens are kept as digests', 1 = 1, '', 0
        where not exists (select 1 from stores) on conflict (version) do nothing"];
    IN_CLEAR = ["select count(*) as number from stores where sync_token_sealed is null and removed_at is null"];
    // Where no key opens the token any more the client gets another.
    REPLACE = ["update stores set sync_token = $2, sync_token_sealed = $3 where id = $1"];
}

pub(crate) const PLACE: &str = "stores.sync_token_sealed";

/// A token in the form in which its row has it.
pub(crate) struct Kept {
    /// The column `sync_token`: half of a digest where `sealed` is there, else the token.
    pub(crate) column: Uuid,
    /// The column `sync_token_sealed`.
    pub(crate) sealed: Option<Sealed>,
}

/// What finds the store of a token.
pub(crate) fn digest(token: SyncToken) -> Uuid {
    // With its purpose: no digest of anything else is ever taken for one.
    let digest = Sha256::new()
        .chain_update(b"wharf/sync-token/v1")
        .chain_update(token.0.as_bytes())
        .finalize();
    let mut half = [0; 16];
    // Half is enough: two of all tokens meet in it as rarely as two random ids do.
    half.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(half)
}

impl Kept {
    /// Hides a token.
    pub(crate) fn hidden(
        keys: &KeyRing,
        identity: &str,
        token: SyncToken,
        nonce: [u8; 24],
    ) -> Self {
        Self {
            column: digest(token),
            sealed: Some(keys.seal(PLACE, identity, token.0.as_bytes(), nonce)),
        }
    }

    /// The token.
    ///
    /// # Errors
    /// None of the keys opens it.
    pub(crate) fn token(&self, keys: &KeyRing, identity: &str) -> Result<SyncToken, StoreError> {
        let Some(sealed) = &self.sealed else {
            return Ok(SyncToken(self.column));
        };
        let token = keys.open(PLACE, identity, sealed)?;
        let token = Uuid::from_slice(&token);
        token
            .map(SyncToken)
            .map_err(|why| StoreError::unreadable(PLACE, why))
    }
}

/// Tells if new tokens are hidden.
pub(crate) async fn are_hidden(conn: &mut Conn) -> Result<bool, StoreError> {
    Ok(conn.query(ARE_HIDDEN).number().await? > 0)
}

/// From now on new tokens are hidden, and programs that would not find their stores refuse to start. Safe to repeat.
pub async fn hide(conn: &mut Conn) -> Result<(), StoreError> {
    conn.query(HIDE).run().await.map(drop)
}

/// The same, in a database without stores.
pub(crate) async fn hide_in_new(conn: &mut Conn) -> Result<(), StoreError> {
    conn.query(HIDE_IN_NEW).run().await.map(drop)
}

/// Counts the tokens that stand in the clear. It reads the whole table.
pub async fn in_clear(conn: &mut Conn) -> Result<i64, StoreError> {
    conn.query(IN_CLEAR).number().await
}

/// Gives a store another token.
pub(crate) async fn replace(conn: &mut Conn, store: Uuid, kept: &Kept) -> Result<(), StoreError> {
    let sealed = kept.sealed.as_ref().map(|sealed| sealed.0.clone());
    let query = conn.query(REPLACE).bind(store).bind(kept.column);
    query.bind(sealed).run().await.map(drop)
}
