use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer};
use serde_json::{json, value::RawValue};
use wharf_app::App;
use wharf_domain::{Amount, ImportResult, Order, Receipt};

use crate::{body::JsonBody, error::ApiError, fields::sync_token};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Imported {
    success: bool,
    order_id: String,
    #[serde(serialize_with = "exact_number")]
    amount: Amount,
    currency: String,
    imported_at: String,
}

/// `POST /orders/import`: idempotent on store and receipt.
pub(super) async fn import(State(app): State<App>, JsonBody(mut fields): JsonBody) -> Result<Response, ApiError> {
    let token = fields.required("syncToken", sync_token);
    let receipt = fields.required("receipt", Receipt::parse);
    let (Some(token), Some(receipt)) = (token, receipt) else { return Err(fields.refusal()) };
    Ok(match app.import(token, receipt).await? {
        ImportResult::Imported(order) => Json(imported(order)).into_response(),
        ImportResult::InvalidReceipt => failure("invalid_receipt"),
        ImportResult::RateLimited => failure("rate_limited"),
        ImportResult::Unavailable => failure("marketplace_unavailable"),
    })
}

fn imported(order: Order) -> Imported {
    Imported {
        success: true,
        order_id: order.id,
        amount: order.amount,
        currency: order.currency.to_string(),
        imported_at: order.imported_at.to_string(),
    }
}

fn failure(error: &'static str) -> Response {
    Json(json!({"success": false, "error": error})).into_response()
}

/// An amount as a JSON number with exactly its digits: through a float, some would change.
pub(super) fn exact_number<S: Serializer>(amount: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(amount.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use wharf_domain::{Currency, Time};

    use super::*;

    #[test]
    fn an_order_is_shown_with_its_exact_amount() {
        let order = Order {
            id: "order-1".into(),
            amount: Amount::parse("123456789012345.10").expect("an amount"),
            currency: Currency::parse("USD").expect("a currency"),
            imported_at: Time::from_micros(1_704_110_400_000_000),
        };
        assert_eq!(
            serde_json::to_string(&imported(order)).expect("JSON"),
            r#"{"success":true,"orderId":"order-1","amount":123456789012345.10,"currency":"USD","importedAt":"2024-01-01T12:00:00.000Z"}"#
        );
    }
}
