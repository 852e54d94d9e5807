//! `/admin/keys`: API keys, for operators; and the tokens that are made with them.

pub(super) mod portal;

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{ApiKey, ApiKeyRequest, App, Caller, MAX_KEYS_PER_PAGE};
use wharf_domain::{ApiKeyId, KeyScope, KeyScopes, OrganizationId, Time};

use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    path::PathId,
    query::Query,
    request::request,
    values::{Note, Number},
};

/// Page size if the request names none.
const DEFAULT_LIMIT: usize = 50;
type PageLimit = Number<1, { MAX_KEYS_PER_PAGE.cast_signed() as i64 }>;
/// A key that is to live for longer is one without an end.
type Days = Number<1, 3_650>;
const DAY_SECONDS: u64 = 24 * 60 * 60;

request! {
    /// A key to be made.
    pub(super) struct CreateKey {
        /// The organization that it is of. Left out: it is an operator's.
        organization_id "organizationId": Option<OrganizationId>,
        /// Its name for people.
        name "name": Note<64>,
        /// What it may be used for: scopes divided by blanks. `operator` and `plugins:*` are for operators alone.
        scopes "scopes": KeyScopes,
        /// How long it lives; until it is revoked where this is left out.
        expires_in_days "expiresInDays": Option<Days>,
    }
}

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Key {
    id: Uuid,
    /// Null for an operator's.
    #[schema(required)]
    organization_id: Option<String>,
    name: String,
    /// Divided by blanks.
    #[schema(example = "orders:write stores:read")]
    scopes: String,
    made_by: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
    /// To the minute, up to a minute late.
    #[schema(required, format = DateTime)]
    last_used_at: Option<String>,
    #[schema(required, format = DateTime)]
    revoked_at: Option<String>,
}

impl From<ApiKey> for Key {
    fn from(key: ApiKey) -> Self {
        let time = |at: Option<Time>| at.map(|at| at.to_string());
        Self {
            id: key.id.0,
            organization_id: key.organization_id.map(|id| id.to_string()),
            name: key.name,
            scopes: key.scopes.to_string(),
            made_by: key.made_by,
            created_at: key.created_at.to_string(),
            expires_at: time(key.expires_at),
            last_used_at: time(key.last_used_at),
            revoked_at: time(key.revoked_at),
        }
    }
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedKey {
    /// The key itself. It cannot be read again.
    #[schema(pattern = "^wharf_(org|op)_[0-9a-f]{32}_[0-9a-f]{64}_[0-9a-f]{8}$")]
    key: String,
    #[serde(flatten)]
    stored: Key,
}

/// Refuses an organization's key: keys are made by operators, for organizations too.
fn only_operators(caller: &Caller) -> Result<(), ApiError> {
    match caller.organization() {
        None => Ok(()),
        Some(_) => Err(ApiError::ScopeMissing("operator")),
    }
}

/// Make a key
///
/// For an organization or for an operator. The answer is the only one that has the key.
#[utoipa::path(post, path = "/admin/keys", tag = "Admin", operation_id = "createKey",
    security(("key" = ["keys:*"])),
    request_body = CreateKey,
    responses(
        (status = 201, description = "The key", body = CreatedKey),
        (status = 409, description = "`Too many keys`: 100 of the organization's, or of the operator's, can be used; \
            revoke one first", body = Refusal),
    ))]
pub(super) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    JsonBody(request): JsonBody<CreateKey>,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    only_operators(&caller)?;
    // An operator's key without a scope must not get it by making itself another key.
    let lacks = |scope: &KeyScope| request.organization_id.is_none() && !caller.may(*scope);
    if let Some(scope) = request.scopes.iter().find(lacks) {
        return Err(ApiError::ScopeMissing(scope.as_str()));
    }
    let days = request.expires_in_days.map(|days| days.0.unsigned_abs());
    let new = ApiKeyRequest {
        organization: request.organization_id,
        name: request.name.0,
        scopes: request.scopes,
        life: days.map(|days| std::time::Duration::from_secs(days * DAY_SECONDS)),
        made_by: caller.actor().to_owned(),
    };
    let made = app.create_api_key(&new).await?;
    let created = CreatedKey {
        key: made.key,
        stored: made.stored.into(),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

request! {
    /// A page of keys.
    pub(super) struct ListKeys {
        /// Only keys of this organization.
        organization_id "organizationId": Option<OrganizationId>,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<Uuid>,
        /// Page size; 50 by default.
        limit "limit": Option<PageLimit>,
    }
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyPage {
    keys: Vec<Key>,
    /// Left out with the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<Uuid>,
}

/// List keys
///
/// Newest first, of all organizations and the operator; with those that ended in the last 90 days.
#[utoipa::path(get, path = "/admin/keys", tag = "Admin", operation_id = "listKeys",
    security(("key" = ["keys:*"])),
    params(ListKeys),
    responses((status = 200, description = "A page of keys", body = KeyPage)))]
pub(super) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(request): Query<ListKeys>,
) -> Result<Json<KeyPage>, ApiError> {
    only_operators(&caller)?;
    let limit = request.limit;
    let limit = limit.and_then(|limit| usize::try_from(limit.0).ok());
    let (organization, before) = (request.organization_id, request.cursor.map(ApiKeyId));
    let page = app
        .api_keys(
            organization.as_ref(),
            before,
            limit.unwrap_or(DEFAULT_LIMIT),
        )
        .await?;
    Ok(Json(KeyPage {
        keys: page.keys.into_iter().map(Key::from).collect(),
        next_cursor: page.next.map(|id| id.0),
    }))
}

/// Revoke a key
///
/// For good. Every process refuses it within ten seconds. Safe to repeat.
#[utoipa::path(delete, path = "/admin/keys/{id}", tag = "Admin", operation_id = "revokeKey",
    security(("key" = ["keys:*"])),
    params(("id" = Uuid, Path, description = "The key")),
    responses(
        (status = 204, description = "It is revoked"),
        (status = 404, description = "`Key not found`", body = Refusal),
    ))]
pub(super) async fn revoke(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId<ApiKeyId>,
) -> Result<StatusCode, ApiError> {
    only_operators(&caller)?;
    app.revoke_api_key(id, caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}
