//! Sealing every value anew with the first key, page by page. A value is replaced only where it is still the one that
//! was read, so that nothing is overwritten that a host writes meanwhile.

use std::collections::BTreeMap;

use uuid::Uuid;
use wharf_domain::{EndpointId, SyncToken};

use crate::{
    Conn, KeyId, KeyRing, Sealed, StoreError,
    dialect::statements,
    endpoints::{RETIRED, SECRET, SealedSecrets},
    rows::Rows,
    stores::{
        TOKEN_PLACE,
        token::{self, digest},
    },
};

statements! {
    STORES = ["select id, identity, access_token as value, sync_token, sync_token_sealed as retired
        from stores where id > $1 order by id limit $2"];
    ENDPOINTS = ["select id, identity, secret as value, retired_secrets as retired, signing_root as root
        from webhook_endpoints where id > $1 order by id limit $2"];
    /// In the order of ids, as everybody locks them, so that nobody waits for each other in a circle.
    LOCK_STORES = ["select id from stores where id in (select id from" rows(r, id uuid) ") order by id" lock_rows];
    LOCK_ENDPOINTS = ["select id from webhook_endpoints where id in (select id from" rows(r, id uuid) ")
        order by id" lock_rows];
    /// A sync token is another from the removal on. An access token is sealed with a new nonce by every registration, which
    /// leaves the sync token as it is: one that was registered meanwhile keeps its access token and gets the rest.
    REPLACE_TOKENS = ["update stores
        set access_token = case when stores.access_token = r.stored then r.value else stores.access_token end,
            sync_token = r.sync_token, sync_token_sealed = r.retired
        from" rows(r, id uuid, stored bytes, stored_token uuid, value bytes, sync_token uuid, retired bytes)
        "where stores.id = r.id and stores.sync_token = r.stored_token"];
    /// A secret is sealed with a new nonce at every change of the row's secrets, so it stands for all three.
    REPLACE_SECRETS = ["update webhook_endpoints set secret = r.value, retired_secrets = r.retired, signing_root = r.root
        from" rows(r, id uuid, stored bytes, value bytes, retired bytes, root bytes)
        "where webhook_endpoints.id = r.id and webhook_endpoints.secret = r.stored"];
    // Cast: a small number is of 32 bits in PostgreSQL, and the driver will not read it as `i64`.
    /// By the kind's number; the first nine bytes are the version and the key's id.
    COUNTS = ["select cast(0 as bigint) as kind, substr(access_token, 1, 9) as head, count(*) as number
            from stores group by substr(access_token, 1, 9)
        union all select cast(1 as bigint), substr(secret, 1, 9), count(*)
            from webhook_endpoints group by substr(secret, 1, 9)
        union all select cast(2 as bigint), substr(retired_secrets, 1, 9), count(*)
            from webhook_endpoints where retired_secrets is not null group by substr(retired_secrets, 1, 9)
        union all select cast(3 as bigint), substr(signing_root, 1, 9), count(*)
            from webhook_endpoints where signing_root is not null group by substr(signing_root, 1, 9)
        union all select cast(4 as bigint), substr(sealed, 1, 9), count(*) from key_canaries group by substr(sealed, 1, 9)
        union all select cast(5 as bigint), substr(mac, 1, 9), count(*)
            from api_keys where revoked_at is null group by substr(mac, 1, 9)
        union all select cast(6 as bigint), substr(sync_token_sealed, 1, 9), count(*)
            from stores where sync_token_sealed is not null group by substr(sync_token_sealed, 1, 9)"];
}

/// A table that holds sealed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Access tokens and the stores' own, which are hidden where they stand in the clear.
    Stores,
    /// Secrets, retired secrets and signing roots.
    Endpoints,
}

/// A page of a table, its values sealed anew where that was needed.
pub struct Page {
    table: Table,
    changes: Vec<Change>,
    /// The row that the next page begins after; `None` after the last.
    pub last: Option<Uuid>,
    /// The rows that were read.
    pub rows: usize,
    /// Rows that none of the keys opens, by the key that sealed them.
    pub unreadable: BTreeMap<Option<KeyId>, u64>,
}

/// A row's values, to be put in the place of those that were read.
struct Change {
    id: Uuid,
    stored: Sealed,
    sealed: SealedSecrets,
    /// Of a store: what finds it, as it was read and as it is to be.
    token: Option<(Uuid, Uuid)>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    identity: String,
    value: Vec<u8>,
    #[sqlx(default)]
    retired: Option<Vec<u8>>,
    #[sqlx(default)]
    root: Option<Vec<u8>>,
    #[sqlx(default)]
    sync_token: Option<Uuid>,
}

/// Reads up to `limit` rows after `after` and seals anew what is not sealed with the first key in the newest version.
/// `nonce` makes random bytes, different ones at every call.
pub async fn read(
    conn: &mut Conn,
    keys: &KeyRing,
    (table, after): (Table, Uuid),
    limit: i64,
    mut nonce: impl FnMut() -> [u8; 24] + Send,
) -> Result<Page, StoreError> {
    let statement = match table {
        Table::Stores => STORES,
        Table::Endpoints => ENDPOINTS,
    };
    let rows: Vec<Row> = conn.query(statement).bind(after).bind(limit).all().await?;
    let mut page = Page {
        table,
        changes: Vec::new(),
        last: rows.last().map(|row| row.id),
        rows: rows.len(),
        unreadable: BTreeMap::new(),
    };
    for row in rows {
        match reseal(keys, table, &row, &mut nonce) {
            Ok(change) => page.changes.extend(change),
            // Counted and passed: a value that is lost must not keep the others from the new key.
            Err(_) => {
                let key = Sealed(row.value.clone()).key_id();
                *page.unreadable.entry(key).or_default() += 1;
                page.changes.extend(hide_token(keys, row, nonce()));
            }
        }
    }
    Ok(page)
}

/// Hides the sync token of a store whose access token is lost, if it stands in the clear.
fn hide_token(keys: &KeyRing, row: Row, nonce: [u8; 24]) -> Option<Change> {
    let token = row.sync_token.filter(|_| row.retired.is_none())?;
    let hidden = token::Kept::hidden(keys, &row.identity, SyncToken(token), nonce);
    let stored = Sealed(row.value);
    Some(Change {
        id: row.id,
        sealed: SealedSecrets {
            current: stored.clone(),
            retired: hidden.sealed,
            root: None,
        },
        stored,
        token: Some((token, hidden.column)),
    })
}

/// The row's values sealed anew; `None` where nothing is to be done.
fn reseal(
    keys: &KeyRing,
    table: Table,
    row: &Row,
    mut nonce: impl FnMut() -> [u8; 24],
) -> Result<Option<Change>, StoreError> {
    let stored = SealedSecrets {
        current: Sealed(row.value.clone()),
        retired: row.retired.clone().map(Sealed),
        root: row.root.clone().map(Sealed),
    };
    // A store's second value is its sync token; one of before stands in the clear.
    let in_clear = row.sync_token.filter(|_| stored.retired.is_none());
    // A row is written whole, so one old value is reason enough for all.
    if in_clear.is_none() && stored.values().all(|one| keys.first().sealed_lately(one)) {
        return Ok(None);
    }
    let found_by = row.sync_token.map(|column| {
        let hidden = in_clear.map(|token| digest(SyncToken(token)));
        (column, hidden.unwrap_or(column))
    });
    let mut again = |place, sealed: &Sealed| -> Result<Sealed, StoreError> {
        let secret = keys.open(place, &row.identity, sealed)?;
        Ok(keys.seal(place, &row.identity, &secret, nonce()))
    };
    let sealed = match table {
        Table::Stores => SealedSecrets {
            current: again(TOKEN_PLACE, &stored.current)?,
            retired: Some(match (&stored.retired, in_clear) {
                (Some(sealed), _) => again(token::PLACE, sealed)?,
                (None, token) => {
                    let token = token.unwrap_or_default();
                    keys.seal(token::PLACE, &row.identity, token.as_bytes(), nonce())
                }
            }),
            root: None,
        },
        Table::Endpoints => SealedSecrets {
            current: again(SECRET, &stored.current)?,
            retired: match &stored.retired {
                Some(text) => Some(again(RETIRED, text)?),
                None => None,
            },
            root: stored.kept_root(keys, EndpointId(row.id), nonce()),
        },
    };
    Ok(Some(Change {
        id: row.id,
        stored: stored.current,
        sealed,
        token: found_by,
    }))
}

/// Puts the new values in, where the old ones still stand. Returns how many rows were changed.
///
/// Call it in a transaction of its own.
pub async fn write(conn: &mut Conn, page: &Page) -> Result<u64, StoreError> {
    if page.changes.is_empty() {
        return Ok(0);
    }
    let (mut ids, mut rows) = (Rows::new(conn), Rows::new(conn));
    for change in &page.changes {
        ids.push().uuid("id", change.id);
        let row = rows.push().uuid("id", change.id);
        row.bytes("stored", &change.stored.0)
            .bytes("value", &change.sealed.current.0);
        if let Some((stored, token)) = change.token {
            row.uuid("stored_token", stored).uuid("sync_token", token);
        }
        for (column, value) in [
            ("retired", &change.sealed.retired),
            ("root", &change.sealed.root),
        ] {
            // A column that is left out reads as null on both databases.
            if let Some(sealed) = value {
                row.bytes(column, &sealed.0);
            }
        }
    }
    let (lock, replace) = match page.table {
        Table::Stores => (LOCK_STORES, REPLACE_TOKENS),
        Table::Endpoints => (LOCK_ENDPOINTS, REPLACE_SECRETS),
    };
    conn.query(lock).rows(&ids).run().await?;
    conn.query(replace).rows(&rows).run().await
}

/// A kind of sealed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Stores' access tokens: one in each row.
    AccessToken,
    /// Webhooks' secrets: one in each row.
    Secret,
    /// Webhooks' former secrets.
    RetiredSecrets,
    /// The roots that webhooks' key pairs are made from.
    SigningRoot,
    /// The canaries themselves.
    Canary,
    /// API keys that are not revoked. Nobody can make their HMACs anew but who sends the key: it happens at its next use.
    ApiKey,
    /// Stores' own tokens.
    SyncToken,
}

impl Kind {
    /// True of values that a reseal moves to the first key.
    pub fn is_sealed(self) -> bool {
        !matches!(self, Self::Canary | Self::ApiKey)
    }
}

/// Values of one kind that were sealed with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedCount {
    /// The kind.
    pub kind: Kind,
    /// The key; `None` if it is no sealed value.
    pub key: Option<KeyId>,
    /// True where they are sealed in the newest version.
    pub is_newest: bool,
    /// The number of values.
    pub number: u64,
}

impl SealedCount {
    /// True where [`read`] would seal them anew.
    pub fn is_to_be_resealed(&self, keys: &KeyRing) -> bool {
        let is_first = self.key == Some(keys.first().id());
        let is_known = self.key.is_some_and(|key| keys.holds(key));
        self.kind.is_sealed() && is_known && !(is_first && self.is_newest)
    }
}

/// Counts every sealed value by its kind, its key and its version. It reads the whole tables.
pub async fn counts(conn: &mut Conn) -> Result<Vec<SealedCount>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        kind: i64,
        head: Vec<u8>,
        number: i64,
    }
    const KINDS: [Kind; 7] = [
        Kind::AccessToken,
        Kind::Secret,
        Kind::RetiredSecrets,
        Kind::SigningRoot,
        Kind::Canary,
        Kind::ApiKey,
        Kind::SyncToken,
    ];
    let rows: Vec<Row> = conn.query(COUNTS).all().await?;
    let kind = |number: i64| usize::try_from(number).ok().and_then(|at| KINDS.get(at));
    let counts = rows.into_iter().filter_map(|row| {
        let head = Sealed::head(&row.head);
        Some(SealedCount {
            kind: *kind(row.kind)?,
            key: head.map(|(_, key)| key),
            is_newest: head.is_some_and(|(is_newest, _)| is_newest),
            number: u64::try_from(row.number).unwrap_or(0),
        })
    });
    Ok(counts.collect())
}
