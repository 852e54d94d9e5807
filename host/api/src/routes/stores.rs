use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};
use wharf_app::{App, StoreRegistration};
use wharf_domain::{AccessToken, Currency, ExternalStoreId, MarketplaceName, OrganizationId, StoreName};

use crate::{
    body::JsonBody,
    error::ApiError,
    fields::{Fields, sync_token},
    query::Query,
};

/// `POST /stores/register`: the same key again updates the store and answers the same two ids.
pub(super) async fn register(State(app): State<App>, JsonBody(fields): JsonBody) -> Result<Json<Value>, ApiError> {
    let store = app.register_store(registration(fields)?).await?;
    Ok(Json(json!({"storeId": store.store_id.0, "syncToken": store.sync_token.0})))
}

fn registration(mut fields: Fields) -> Result<StoreRegistration, ApiError> {
    let organization_id = fields.required("organizationId", OrganizationId::parse);
    let marketplace = fields.required("marketplace", MarketplaceName::parse);
    let external_store_id = fields.required("externalStoreId", ExternalStoreId::parse);
    let store_name = fields.required("storeName", StoreName::parse);
    let access_token = fields.required("accessToken", AccessToken::parse);
    let currency = fields.required("currency", Currency::parse);
    match (organization_id, marketplace, external_store_id, store_name, access_token, currency) {
        (
            Some(organization_id),
            Some(marketplace),
            Some(external_store_id),
            Some(store_name),
            Some(access_token),
            Some(currency),
        ) => Ok(StoreRegistration {
            organization_id,
            marketplace,
            external_store_id,
            store_name,
            access_token,
            currency,
        }),
        _ => Err(fields.refusal()),
    }
}

/// `GET /stores/sync-status?syncToken=`.
pub(super) async fn sync_status(State(app): State<App>, Query(mut fields): Query) -> Result<Json<Value>, ApiError> {
    let Some(token) = fields.required("syncToken", sync_token) else { return Err(fields.refusal()) };
    let report = app.sync_status(token).await?;
    Ok(Json(json!({
        "lastSyncAt": report.last_sync_at.map(|at| at.to_string()),
        "importedOrders": report.imported_orders,
        "syncStatus": report.sync_status.as_str(),
        "rateLimitedCount": report.rate_limited_count,
    })))
}

/// `POST /stores/sync`: a run of the store's sync is queued, if none is.
pub(super) async fn sync(
    State(app): State<App>,
    JsonBody(mut fields): JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let Some(token) = fields.required("syncToken", sync_token) else { return Err(fields.refusal()) };
    let requested = app.request_sync(token).await?;
    let answer = json!({
        "storeId": requested.store_id.0,
        "jobId": format!("store:{}", requested.store_id),
        "queued": requested.newly_queued,
    });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: Value) -> Result<StoreRegistration, ApiError> {
        let Value::Object(object) = value else { panic!("not an object") };
        registration(Fields::from_object(object))
    }

    #[test]
    fn a_registration_is_read_whole() {
        let parsed = parse(json!({
            "organizationId": "org-1", "marketplace": "etsy", "externalStoreId": "ext-1", "storeName": "My Store",
            "accessToken": "token", "currency": "eur", "extra": {"ignored": true},
        }));
        let Ok(registration) = parsed else { panic!("refused") };
        assert_eq!(registration.currency.as_str(), "EUR");
        assert_eq!(registration.access_token.expose(), "token");
    }

    #[test]
    fn an_empty_one_misses_all_six_fields() {
        let Err(ApiError::Validation(details)) = parse(json!({})) else { panic!("accepted") };
        let paths: Vec<_> = details.iter().map(|detail| detail.path).collect();
        assert_eq!(paths, ["organizationId", "marketplace", "externalStoreId", "storeName", "accessToken", "currency"]);
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
        let Err(ApiError::Validation(details)) = with(8_193, 256) else { panic!("accepted") };
        assert_eq!(details.iter().map(|detail| detail.path).collect::<Vec<_>>(), ["storeName", "accessToken"]);
    }
}
