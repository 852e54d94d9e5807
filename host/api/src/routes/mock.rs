//! The mock marketplace: an adapter asked directly, with nothing stored.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::request::Parts,
};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::{App, MockAnswer};
use wharf_domain::{Amount, Currency, Receipt};

use super::orders::exact_number;
use crate::{
    ApiState,
    body::JsonBody,
    error::{ApiError, Refusal},
    fields::Fields,
    request::{FromFields, request},
    values::{always_false, always_true},
};

/// The marketplace that a request asks and may ask: checked before its body is looked at.
pub(super) struct Marketplace(String);

impl FromRequestParts<ApiState> for Marketplace {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(name) = path.map_err(|_| ApiError::InvalidMarketplace)?;
        // Before the credentials, so that a name that nobody serves is not answered as a setting that is missing.
        if !state.app.serves(&name) {
            // One of those that are still being loaded may serve it.
            return Err(match state.app.is_loading() {
                true => ApiError::PluginsLoading,
                false => ApiError::InvalidMarketplace,
            });
        }
        // Before the body: an adapter's call costs, and strangers must not cause any.
        state.mock_credentials.check(&name, &parts.headers)?;
        Ok(Self(name))
    }
}

request! {
    /// A receipt to be judged.
    pub(super) struct MockQuestion {
        /// The order's id at the marketplace.
        receipt "receipt": Receipt,
        /// The currency of the order; USD by default.
        currency "currency": Option<Currency>,
    }
}

/// The marketplace's answer.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum MockJudgement {
    Accepted(AcceptedReceipt),
    Rejected(RejectedReceipt),
}

/// A receipt that names an order.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AcceptedReceipt {
    #[schema(schema_with = always_true)]
    status: bool,
    order_id: String,
    #[serde(serialize_with = "exact_number")]
    #[schema(value_type = f64, minimum = 0, example = 788.10)]
    amount: Amount,
    #[schema(pattern = "^[A-Z]{3}$", example = "USD")]
    currency: String,
    #[serde(rename = "importedAtUTC")]
    #[schema(format = DateTime)]
    imported_at: String,
}

/// A receipt that names no order.
#[derive(Serialize, ToSchema)]
pub(super) struct RejectedReceipt {
    #[schema(schema_with = always_false)]
    status: bool,
}

/// Call the mock marketplace
///
/// The same adapter answers as for imports; nothing is stored.
#[utoipa::path(post, path = "/mock/{marketplace}/validate", tag = "Mock marketplace", operation_id = "mockValidate",
    params(("marketplace" = String, Path, description = "A marketplace that an adapter serves", example = "etsy")),
    request_body = MockQuestion,
    security(("mock" = [])),
    responses(
        (status = 200, description = "The marketplace's answer", body = MockJudgement),
        (status = 400, description = "`Invalid marketplace`, `receipt is required`, `Validation error`", body = Refusal),
        (status = 401, description = "`Unauthorized`", body = Refusal,
            headers(("WWW-Authenticate" = String, description = "`Basic realm=\"mock\"`"))),
        (status = 429, description = "`rate_limited`: the marketplace asks to try later. `Too many requests`: \
            this client asks too often, or has too many requests in work", body = Refusal,
            headers(("Retry-After" = i64, description = "Seconds"))),
        (status = 500, description = "`Marketplace credentials not configured`, `Internal error`", body = Refusal),
        (status = 503, description = "`marketplace_unavailable`: its adapter could not be asked; `Service unavailable`: it took too long, or plugins are still being loaded",
            body = Refusal, headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(super) async fn validate(
    Marketplace(marketplace): Marketplace,
    State(app): State<App>,
    JsonBody(fields): JsonBody<Fields>,
) -> Result<Json<MockJudgement>, ApiError> {
    let (receipt, currency) = question(fields)?;
    match app.mock_validate(&marketplace, &receipt, currency).await? {
        MockAnswer::Accepted {
            order_id,
            amount,
            currency,
            imported_at,
        } => {
            let (currency, imported_at) = (currency.to_string(), imported_at.to_string());
            Ok(Json(MockJudgement::Accepted(AcceptedReceipt {
                status: true,
                order_id,
                amount,
                currency,
                imported_at,
            })))
        }
        MockAnswer::Rejected => Ok(Json(MockJudgement::Rejected(RejectedReceipt {
            status: false,
        }))),
        MockAnswer::RateLimited { retry_after } => Err(ApiError::RateLimited(retry_after)),
        MockAnswer::Unavailable => Err(ApiError::MarketplaceUnavailable),
    }
}

fn question(fields: Fields) -> Result<(Receipt, Currency), ApiError> {
    // A documented error of its own, which goes before the list of wrong fields.
    if !fields.has_text("receipt") {
        return Err(ApiError::ReceiptRequired);
    }
    let MockQuestion { receipt, currency } = MockQuestion::from_fields(fields)?;
    Ok((receipt, currency.unwrap_or_else(us_dollars)))
}

fn us_dollars() -> Currency {
    Currency::parse("USD").expect("it has three letters")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ask(value: Value) -> Result<(String, String), ApiError> {
        question(Fields::of(value))
            .map(|(receipt, currency)| (receipt.to_string(), currency.to_string()))
    }

    #[test]
    fn the_currency_defaults_to_dollars() {
        assert_eq!(
            ask(json!({"receipt": "test1"})).ok(),
            Some(("test1".into(), "USD".into()))
        );
        assert_eq!(
            ask(json!({"receipt": "x", "currency": "eur"})).ok(),
            Some(("x".into(), "EUR".into()))
        );
    }

    #[test]
    fn a_receipt_is_required() {
        for body in [
            json!({}),
            json!({"receipt": ""}),
            json!({"receipt": null}),
            json!({"receipt": 5}),
        ] {
            assert!(matches!(ask(body), Err(ApiError::ReceiptRequired)));
        }
        for body in [
            json!({"receipt": "a\u{0}"}),
            json!({"receipt": "a", "currency": 5}),
        ] {
            assert!(matches!(ask(body), Err(ApiError::Validation(_))));
        }
    }
}
