//! Making, listing and revoking keys. Functions on the ledger, because the first key is made before any host can be asked.

use std::time::Duration;

use wharf_domain::{ApiKeyId, KeyKind, KeyScopes, KeyText, OrganizationId, Time};
use wharf_store::{
    KeyRing, Ledger,
    api_keys::{self, ApiKey, NewApiKey, Whose},
    canary,
};

use crate::{
    App, AppError,
    entropy::{new_id, random},
};

/// Keys that one organization may have at a time, and the operator: a rotation needs two for each use.
pub const MAX_LIVE_KEYS: i64 = 100;
/// The most keys on one page.
pub const MAX_KEYS_PER_PAGE: usize = 100;
/// A key that ended is listed for this long.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Ended keys that the making of one takes away.
const MAX_PURGED: i64 = 100;

/// A key to be made.
#[derive(Clone, Debug)]
pub struct ApiKeyRequest {
    /// The organization that it is of; `None` for an operator's.
    pub organization: Option<OrganizationId>,
    /// Its name for people.
    pub name: String,
    /// What it may be used for.
    pub scopes: KeyScopes,
    /// How long it lives; `None`: until it is revoked.
    pub life: Option<Duration>,
    /// Who makes it.
    pub made_by: String,
}

/// A key that was made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// As it is stored.
    pub stored: ApiKey,
    /// The key itself, which nobody can tell again.
    pub key: String,
}

/// A page of keys, the newest first.
#[derive(Clone, Debug)]
pub struct ApiKeyPage {
    /// Those on it.
    pub keys: Vec<ApiKey>,
    /// The place where the next page begins; `None` on the last.
    pub next: Option<ApiKeyId>,
}

pub(super) fn kind_of(organization: Option<&OrganizationId>) -> KeyKind {
    match organization {
        Some(_) => KeyKind::Organization,
        None => KeyKind::Operator,
    }
}

/// Makes a key.
///
/// # Errors
/// The organization has as many as it may have, or the scopes reach beyond it.
pub async fn create_api_key(
    ledger: &Ledger,
    keys: &KeyRing,
    request: &ApiKeyRequest,
    now: Time,
) -> Result<NewKey, AppError> {
    let organization = request.organization.as_ref();
    if organization.is_some() {
        let checked = request.scopes.check_for_organization();
        checked.map_err(|why| AppError::ScopesForbidden(why.0))?;
    }
    let (id, secret) = (ApiKeyId(new_id(now)), random());
    let new = NewApiKey {
        id,
        organization_id: organization,
        name: &request.name,
        scopes: request.scopes,
        made_by: &request.made_by,
        expires_at: request.life.map(|life| now + life),
    };
    let mut tx = ledger.begin().await?;
    canary::hold(&mut tx, keys, random(), now).await?;
    if !api_keys::has_room(&mut tx, organization, MAX_LIVE_KEYS, now).await? {
        return Err(AppError::TooManyKeys);
    }
    api_keys::purge(&mut tx, organization, now - KEPT, MAX_PURGED).await?;
    api_keys::add(&mut tx, keys, &new, &secret, now).await?;
    let stored = api_keys::get(&mut tx, id).await?;
    tx.commit().await?;
    let made_by = &request.made_by;
    tracing::info!(key = %id, made_by, scopes = %request.scopes, "api_key_created");
    let text = KeyText {
        kind: kind_of(organization),
        body: id.0.as_bytes().to_vec(),
        secret,
    };
    Ok(NewKey {
        // It was put in by the statement before.
        stored: stored.ok_or(AppError::KeyNotFound)?,
        key: text.expose(),
    })
}

/// A page of all keys or of one organization's, at most [`MAX_KEYS_PER_PAGE`].
///
/// # Errors
/// If the database cannot be asked.
pub async fn list_api_keys(
    ledger: &Ledger,
    organization: Option<&OrganizationId>,
    before: Option<ApiKeyId>,
    limit: usize,
) -> Result<ApiKeyPage, AppError> {
    let limit = limit.clamp(1, MAX_KEYS_PER_PAGE);
    let whose = organization.map_or(Whose::Everybody, Whose::Organization);
    // One more than the page shows tells whether there is a next one.
    let one_more = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut conn = ledger.read().await?;
    let mut keys = api_keys::list(&mut conn, whose, before, one_more).await?;
    let is_last = keys.len() <= limit;
    keys.truncate(limit);
    let next = keys.last().filter(|_| !is_last).map(|key| key.id);
    Ok(ApiKeyPage { keys, next })
}

/// Revokes a key for good; safe to repeat.
///
/// # Errors
/// There is none of this id.
pub async fn revoke_api_key(
    ledger: &Ledger,
    id: ApiKeyId,
    by: &str,
    now: Time,
) -> Result<(), AppError> {
    if !api_keys::revoke(&mut ledger.write().await?, id, now).await? {
        return Err(AppError::KeyNotFound);
    }
    tracing::info!(key = %id, by, "api_key_revoked");
    Ok(())
}

impl App {
    /// Makes a key; see [`create_api_key`].
    pub async fn create_api_key(&self, request: &ApiKeyRequest) -> Result<NewKey, AppError> {
        let keys = &self.0.settings.encryption_key;
        create_api_key(&self.0.ledger, keys, request, self.0.clock.now()).await
    }

    /// A page of keys; see [`list_api_keys`].
    pub async fn api_keys(
        &self,
        organization: Option<&OrganizationId>,
        before: Option<ApiKeyId>,
        limit: usize,
    ) -> Result<ApiKeyPage, AppError> {
        list_api_keys(&self.0.ledger, organization, before, limit).await
    }

    /// Revokes a key. This process refuses it from now on, the others within ten seconds.
    pub async fn revoke_api_key(&self, id: ApiKeyId, by: &str) -> Result<(), AppError> {
        revoke_api_key(&self.0.ledger, id, by, self.0.clock.now()).await?;
        self.0.access.cache.forget(id);
        Ok(())
    }
}
