//! Stores: register them, read their status, queue a sync.

pub(super) mod admin;
pub(super) mod hold;
pub(super) mod list;
pub(super) mod remove;
pub(super) mod show;
pub(super) mod view;

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::{ToSchema, openapi::Object};
use uuid::Uuid;
use wharf_app::{App, Caller, StoreRegistration};
use wharf_domain::{
    AccessToken, Currency, ExternalStoreId, MarketplaceName, OrganizationId, RequestId, StoreName,
    SyncStatus, SyncToken,
};

use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    query::Query,
    request::request,
    values::names,
};

request! {
    /// A store at a marketplace.
    pub(super) struct RegisterStore {
        /// The organization that owns the store.
        organization_id "organizationId": OrganizationId,
        /// The marketplace, as its adapter names it.
        marketplace "marketplace": MarketplaceName,
        /// The store's own id there.
        external_store_id "externalStoreId": ExternalStoreId,
        /// Its name for people.
        store_name "storeName": StoreName,
        /// Its access token there. Kept encrypted, never shown.
        access_token "accessToken": AccessToken,
        /// The currency of its orders; kept in upper case.
        currency "currency": Currency,
    }
}

impl From<RegisterStore> for StoreRegistration {
    fn from(request: RegisterStore) -> Self {
        let RegisterStore {
            organization_id,
            marketplace,
            external_store_id,
            store_name,
            access_token,
            currency,
        } = request;
        Self {
            organization_id,
            marketplace,
            external_store_id,
            store_name,
            access_token,
            currency,
        }
    }
}

/// The two ids of a store.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegisteredStore {
    store_id: Uuid,
    /// Identifies the store in later requests, and is its password: anyone who has it may import orders.
    sync_token: Uuid,
}

/// Register or update a store
///
/// Repeating the organization, marketplace and external id updates the store's name, token and currency and returns the
/// same two ids. With another token, orders that could not be imported are asked about again at once. A marketplace that no
/// plugin serves or has served is a wrong field.
#[utoipa::path(post, path = "/stores/register", tag = "Stores", operation_id = "registerStore",
    security(("key" = ["stores:write"])),
    request_body = RegisterStore,
    responses(
        (status = 200, description = "The store, new or updated", body = RegisteredStore),
        (status = 409, description = "`Store is being removed`: repeat it once that is done", body = Refusal,
            headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(super) async fn register(
    State(app): State<App>,
    JsonBody(request): JsonBody<RegisterStore>,
) -> Result<Json<RegisteredStore>, ApiError> {
    let store = app.register_store(request.into()).await?;
    Ok(Json(RegisteredStore {
        store_id: store.store_id.0,
        sync_token: store.sync_token.0,
    }))
}

request! {
    /// A store by its token.
    pub(super) struct StoreByToken {
        /// The token that its registration answered.
        sync_token "syncToken": SyncToken,
    }
}

/// The state of a store's synchronisation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoreStatus {
    /// When the marketplace was last asked, by an import or a sync; null before that.
    #[schema(required, format = DateTime)]
    last_sync_at: Option<String>,
    #[schema(minimum = 0)]
    imported_orders: i64,
    #[schema(schema_with = sync_statuses)]
    sync_status: &'static str,
    #[schema(minimum = 0)]
    rate_limited_count: i64,
}

fn sync_statuses() -> Object {
    let about = "Over the latest 20 logs. `pending`: there are none. `success`: the last is a success and none failed or \
        was rate-limited. `failed`: the last failed and none succeeded. `partial`: everything else.";
    names(about, SyncStatus::ALL.map(SyncStatus::as_str))
}

/// Read a store's status
///
/// Costs the same however long its log is.
#[utoipa::path(get, path = "/stores/sync-status", tag = "Stores", operation_id = "syncStatus",
    security(("key" = ["stores:read"])),
    params(StoreByToken),
    responses(
        (status = 200, description = "The status", body = StoreStatus),
        (status = 404, description = "`Store not found`", body = Refusal),
    ))]
pub(super) async fn sync_status(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(request): Query<StoreByToken>,
) -> Result<Json<StoreStatus>, ApiError> {
    // The token stands in the query, which is why `observe` logs no query.
    let report = app.sync_status(caller.reach(), request.sync_token).await?;
    Ok(Json(StoreStatus {
        last_sync_at: report.last_sync_at.map(|at| at.to_string()),
        imported_orders: report.imported_orders,
        sync_status: report.sync_status.as_str(),
        rate_limited_count: report.rate_limited_count,
    }))
}

/// A sync run that was asked for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueuedSync {
    store_id: Uuid,
    /// `store:` and the store's id: a store has one job.
    #[schema(example = "store:0190a5e4-7b1c-7def-8abc-0123456789ab")]
    job_id: String,
    /// False where the job was queued already.
    queued: bool,
}

/// Sync a store now
///
/// Queues a run of the store's sync, if none is queued, instead of waiting for the scheduler. A store on hold is run once it
/// is resumed.
#[utoipa::path(post, path = "/stores/sync", tag = "Stores", operation_id = "syncStore",
    security(("key" = ["stores:write"])),
    request_body = StoreByToken,
    responses(
        (status = 202, description = "The run is queued", body = QueuedSync),
        (status = 404, description = "`Store not found`", body = Refusal),
    ))]
pub(super) async fn sync(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(id): Extension<RequestId>,
    JsonBody(request): JsonBody<StoreByToken>,
) -> Result<(StatusCode, Json<QueuedSync>), ApiError> {
    let requested = app
        .request_sync(caller.reach(), request.sync_token, &id)
        .await?;
    let job_id = format!("store:{}", requested.store_id);
    let queued = QueuedSync {
        store_id: requested.store_id.0,
        job_id,
        queued: requested.newly_queued,
    };
    Ok((StatusCode::ACCEPTED, Json(queued)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{fields::Fields, request::FromFields};

    fn parse(value: Value) -> Result<StoreRegistration, ApiError> {
        RegisterStore::from_fields(Fields::of(value)).map(StoreRegistration::from)
    }

    #[test]
    fn a_registration_is_read_whole() {
        let parsed = parse(json!({
            "organizationId": "org-1", "marketplace": "etsy", "externalStoreId": "ext-1", "storeName": "My Store",
            "accessToken": "token", "currency": "eur", "extra": {"ignored": true},
        }));
        let Ok(registration) = parsed else {
            panic!("refused")
        };
        assert_eq!(registration.currency.as_str(), "EUR");
        assert_eq!(registration.access_token.expose(), "token");
    }

    #[test]
    fn an_empty_one_misses_all_six_fields() {
        let Err(ApiError::Validation(details)) = parse(json!({})) else {
            panic!("accepted")
        };
        let paths: Vec<_> = details.iter().map(|detail| detail.path).collect();
        assert_eq!(
            paths,
            [
                "organizationId",
                "marketplace",
                "externalStoreId",
                "storeName",
                "accessToken",
                "currency"
            ]
        );
        assert!(details.iter().all(|detail| detail.message == "is required"));
    }

    #[test]
    fn lengths_follow_the_contract() {
        let with = |token: usize, name: usize| {
            parse(json!({
                "organizationId": "o", "marketplace": "etsy", "externalStoreId": "e", "storeName": "n".repeat(name),
                "accessToken": "t".repeat(token), "currency": "USD",
            }))
        };
        assert!(with(8_192, 255).is_ok());
        let Err(ApiError::Validation(details)) = with(8_193, 256) else {
            panic!("accepted")
        };
        assert_eq!(
            details.iter().map(|detail| detail.path).collect::<Vec<_>>(),
            ["storeName", "accessToken"]
        );
    }
}
