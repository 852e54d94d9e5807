use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use wharf_app::{App, MockAnswer};
use wharf_domain::{Amount, Currency, Receipt};

use super::orders::exact_number;
use crate::{ApiState, body::JsonBody, error::ApiError, fields::Fields};

/// The marketplace that a request asks and may ask: checked before its body is looked at.
pub(super) struct Marketplace(String);

impl FromRequestParts<ApiState> for Marketplace {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(name) = path.map_err(|_| ApiError::InvalidMarketplace)?;
        if !state.app.serves(&name) {
            return Err(ApiError::InvalidMarketplace);
        }
        state.mock_credentials.check(&name, &parts.headers)?;
        Ok(Self(name))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    status: bool,
    order_id: String,
    #[serde(serialize_with = "exact_number")]
    amount: Amount,
    currency: String,
    #[serde(rename = "importedAtUTC")]
    imported_at: String,
}

/// `POST /mock/{marketplace}/validate`: what the marketplace's adapter says, with nothing stored.
pub(super) async fn validate(
    Marketplace(marketplace): Marketplace,
    State(app): State<App>,
    JsonBody(fields): JsonBody,
) -> Result<Response, ApiError> {
    let (receipt, currency) = question(fields)?;
    match app.mock_validate(&marketplace, &receipt, currency).await? {
        MockAnswer::Accepted { order_id, amount, currency, imported_at } => {
            let (currency, imported_at) = (currency.to_string(), imported_at.to_string());
            Ok(Json(Accepted { status: true, order_id, amount, currency, imported_at }).into_response())
        }
        MockAnswer::Rejected => Ok(Json(json!({"status": false})).into_response()),
        MockAnswer::RateLimited { retry_after } => Err(ApiError::RateLimited(retry_after)),
        MockAnswer::Unavailable => Err(ApiError::MarketplaceUnavailable),
    }
}

fn question(mut fields: Fields) -> Result<(Receipt, Currency), ApiError> {
    if !fields.has_text("receipt") {
        return Err(ApiError::ReceiptRequired);
    }
    let receipt = fields.required("receipt", Receipt::parse);
    let currency = fields.optional("currency", Currency::parse);
    let (Some(receipt), Some(currency)) = (receipt, currency) else { return Err(fields.refusal()) };
    Ok((receipt, currency.unwrap_or_else(us_dollars)))
}

fn us_dollars() -> Currency {
    Currency::parse("USD").expect("it has three letters")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn ask(value: Value) -> Result<(String, String), ApiError> {
        let Value::Object(object) = value else { panic!("not an object") };
        question(Fields::from_object(object)).map(|(receipt, currency)| (receipt.to_string(), currency.to_string()))
    }

    #[test]
    fn the_currency_defaults_to_dollars() {
        assert_eq!(ask(json!({"receipt": "test1"})).ok(), Some(("test1".into(), "USD".into())));
        assert_eq!(ask(json!({"receipt": "x", "currency": "eur"})).ok(), Some(("x".into(), "EUR".into())));
    }

    #[test]
    fn a_receipt_is_required() {
        for body in [json!({}), json!({"receipt": ""}), json!({"receipt": null}), json!({"receipt": 5})] {
            assert!(matches!(ask(body), Err(ApiError::ReceiptRequired)));
        }
        for body in [json!({"receipt": "a\u{0}"}), json!({"receipt": "a", "currency": 5})] {
            assert!(matches!(ask(body), Err(ApiError::Validation(_))));
        }
    }
}
