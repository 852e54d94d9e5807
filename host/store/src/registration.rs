//! Registering sellers' stores.

use uuid::Uuid;
use wharf_domain::{
    AccessToken, Currency, ExternalStoreId, MarketplaceName, OrganizationId, StoreId, StoreName,
    SyncToken, Time,
};

use crate::{
    Conn, KeyRing, Sealed, StoreError,
    dialect::statements,
    stores::{
        TOKEN_PLACE, digest_of,
        token::{self, Kept},
    },
    values::At,
};

statements! {
    // Insert or update, answering the ids of whichever row stands then.
    REGISTER = ["insert into stores (id, identity, organization_id, marketplace, external_store_id, store_name,
        access_token, currency, sync_token, created_at, updated_at, credentials_changed_at,
            sync_token_sealed)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12)
        on conflict (identity) do update set store_name = excluded.store_name, access_token = excluded.access_token,
            currency = excluded.currency, updated_at = excluded.updated_at,
            credentials_changed_at = coalesce(excluded.credentials_changed_at, stores.credentials_changed_at)
            where stores.removed_at is null
        returning id, sync_token, sync_token_sealed"];
    // Held until the registration is written, so that of two at a time the second sees the token of the first.
    TOKEN = ["select access_token from stores where identity = $1" lock_rows];
}

/// A store to register.
pub struct NewStore<'a> {
    /// The id that it gets if it is new.
    pub id: StoreId,
    /// The token that it gets if it is new.
    pub sync_token: SyncToken,
    /// The organization that it belongs to.
    pub organization_id: &'a OrganizationId,
    /// Its marketplace.
    pub marketplace: &'a MarketplaceName,
    /// Its id there.
    pub external_store_id: &'a ExternalStoreId,
    /// Its name for people.
    pub store_name: &'a StoreName,
    /// Its token there; stored encrypted.
    pub access_token: &'a AccessToken,
    /// Its currency.
    pub currency: Currency,
    /// Random bytes for the encryption, used once.
    pub nonce: [u8; 24],
    /// The same for its own token.
    pub token_nonce: [u8; 24],
}

/// A store that was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub id: StoreId,
    /// Its token.
    pub sync_token: SyncToken,
    /// It was there before and has another access token now. What failed before is to be tried with it.
    pub has_new_credentials: bool,
}

/// Registers a store, or updates name, token and currency of the one that has its key; the ids never change.
///
/// Call it in a transaction.
///
/// # Errors
/// [`StoreError::StoreRemoved`] while the one that has its key is being removed.
pub async fn register(
    conn: &mut Conn,
    keys: &KeyRing,
    new: &NewStore<'_>,
    now: Time,
) -> Result<Registered, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        sync_token: Uuid,
        sync_token_sealed: Option<Vec<u8>>,
    }
    // The unique key: three names of 255 characters do not fit into a b-tree entry.
    let identity = digest_of(&[
        new.organization_id.as_str(),
        new.marketplace.as_str(),
        new.external_store_id.as_str(),
    ]);
    let has_new_credentials = changes_token(conn, keys, &identity, new.access_token).await?;
    let access_token = keys.seal(
        TOKEN_PLACE,
        &identity,
        new.access_token.expose().as_bytes(),
        new.nonce,
    );
    let hidden = || Kept::hidden(keys, &identity, new.sync_token, new.token_nonce);
    let kept = if token::are_hidden(conn).await? {
        hidden()
    } else {
        Kept {
            column: new.sync_token.0,
            sealed: None,
        }
    };
    let row: Option<Row> = conn
        .query(REGISTER)
        .bind(new.id.0)
        .bind(identity.clone())
        .bind(new.organization_id.as_str())
        .bind(new.marketplace.as_str())
        .bind(new.external_store_id.as_str())
        .bind(new.store_name.as_str())
        .bind(access_token.0)
        .bind(new.currency.as_str())
        .bind(kept.column)
        .time(now)
        .bind(has_new_credentials.then_some(At(now)))
        .bind(kept.sealed.map(|sealed| sealed.0))
        .optional()
        .await?;
    // The one that has its key is being removed. Once it is gone, this makes a new store.
    let row: Row = row.ok_or(StoreError::StoreRemoved)?;
    let kept = Kept {
        column: row.sync_token,
        sealed: row.sync_token_sealed.map(Sealed),
    };
    let sync_token = match kept.token(keys, &identity) {
        Ok(token) => token,
        // Sealed with a key that is lost. The store is its owner's all the same, and the old token goes.
        Err(StoreError::Unreadable { .. }) => {
            token::replace(conn, row.id, &hidden()).await?;
            new.sync_token
        }
        Err(error) => return Err(error),
    };
    Ok(Registered {
        id: StoreId(row.id),
        sync_token,
        has_new_credentials,
    })
}

/// Tells if there is such a store and it has another access token, or one that cannot be read.
async fn changes_token(
    conn: &mut Conn,
    keys: &KeyRing,
    identity: &str,
    new: &AccessToken,
) -> Result<bool, StoreError> {
    #[derive(FromRow)]
    struct Row {
        access_token: Vec<u8>,
    }
    let row: Option<Row> = conn.query(TOKEN).bind(identity).optional().await?;
    // Opened, because the same token is sealed anew each time.
    Ok(row.is_some_and(|row| {
        let opened = keys.open(TOKEN_PLACE, identity, &Sealed(row.access_token));
        !opened.is_ok_and(|old| old == new.expose().as_bytes())
    }))
}
