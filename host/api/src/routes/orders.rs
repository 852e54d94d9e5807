//! Importing orders.

use axum::{Extension, Json, extract::State};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use wharf_app::{App, Caller};
use wharf_domain::{Amount, ImportResult, Order, Receipt, RequestId, SyncToken};

use crate::{
    body::JsonBody,
    error::{ApiError, Refusal},
    request::request,
    values::{always_false, always_true},
};

request! {
    /// An order to import.
    pub(super) struct ImportOrder {
        /// The token of its store.
        sync_token "syncToken": SyncToken,
        /// The order's id at the marketplace.
        receipt "receipt": Receipt,
    }
}

/// The result of an import.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ImportAnswer {
    Imported(ImportedOrder),
    NotImported(NotImported),
}

/// An order that was imported.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImportedOrder {
    #[schema(schema_with = always_true)]
    success: bool,
    #[schema(example = "order-1b90c1")]
    order_id: String,
    /// Exact, with as many places as the marketplace gave.
    #[serde(serialize_with = "exact_number")]
    #[schema(value_type = f64, minimum = 0, example = 788.10)]
    amount: Amount,
    #[schema(pattern = "^[A-Z]{3}$", example = "USD")]
    currency: String,
    #[schema(format = DateTime)]
    imported_at: String,
}

/// An order that was not imported, or not yet.
#[derive(Serialize, ToSchema)]
pub(super) struct NotImported {
    #[schema(schema_with = always_false)]
    success: bool,
    error: ImportTrouble,
}

/// The reason. `invalid_receipt` is the marketplace's answer; after the other two the sync engine asks again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ImportTrouble {
    InvalidReceipt,
    RateLimited,
    MarketplaceUnavailable,
}

/// Import an order
///
/// Idempotent: the first result for a store's receipt is stored and returned from then on, however many clients ask at once.
/// A receipt that stands for an order which the store has under another receipt is answered with that order and not counted
/// again.
#[utoipa::path(post, path = "/orders/import", tag = "Orders", operation_id = "importOrder",
    security(("key" = ["orders:write"])),
    request_body = ImportOrder,
    responses(
        (status = 200, description = "The marketplace's answer, or the stored one of an earlier import", body = ImportAnswer),
        (status = 404, description = "`Store not found`", body = Refusal),
        (status = 409, description = "`Store on hold`: nothing is known of the receipt, and its marketplace is asked nothing \
            until the store is resumed", body = Refusal),
    ))]
pub(super) async fn import(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(id): Extension<RequestId>,
    JsonBody(request): JsonBody<ImportOrder>,
) -> Result<Json<ImportAnswer>, ApiError> {
    let trouble = |error| {
        ImportAnswer::NotImported(NotImported {
            success: false,
            error,
        })
    };
    Ok(Json(
        match app
            .import(caller.reach(), request.sync_token, request.receipt, id)
            .await?
        {
            ImportResult::Imported(order) => ImportAnswer::Imported(order.into()),
            ImportResult::InvalidReceipt => trouble(ImportTrouble::InvalidReceipt),
            // Still a 200: the log is stored, and the sync engine asks again by itself.
            ImportResult::RateLimited => trouble(ImportTrouble::RateLimited),
            ImportResult::Unavailable => trouble(ImportTrouble::MarketplaceUnavailable),
        },
    ))
}

impl From<Order> for ImportedOrder {
    fn from(order: Order) -> Self {
        Self {
            success: true,
            order_id: order.id,
            amount: order.amount,
            currency: order.currency.to_string(),
            imported_at: order.imported_at.to_string(),
        }
    }
}

/// An amount as a JSON number with exactly its digits: through a float, some would change.
pub(super) fn exact_number<S: Serializer>(
    amount: &Amount,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    // serde_json passes it through as it stands; other serializers would not.
    RawValue::from_string(amount.to_string())
        .map_err(serde::ser::Error::custom)?
        .serialize(serializer)
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
            serde_json::to_string(&ImportAnswer::Imported(order.into())).expect("JSON"),
            r#"{"success":true,"orderId":"order-1","amount":123456789012345.10,"currency":"USD","importedAt":"2024-01-01T12:00:00.000Z"}"#
        );
    }
}
