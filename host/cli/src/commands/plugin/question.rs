//! The question that an author puts to an adapter.

use clap::Args;
use wharf_domain::{AccessToken, Clock, Currency, ExternalStoreId, Receipt, SystemClock, Time};
use wharf_engine::ValidateRequest;

use crate::usage::UsageError;

/// A receipt and its store.
#[derive(Args)]
pub(super) struct QuestionArgs {
    /// An adapter: the receipt to judge
    #[arg(long, default_value = "order-101", value_parser = receipt)]
    receipt: Receipt,
    /// An adapter: the store's currency
    #[arg(long, default_value = "USD", value_parser = currency)]
    currency: Currency,
    /// An adapter: the store's id at the marketplace
    #[arg(long, default_value = "ext-100", value_parser = external_store_id)]
    external_store_id: ExternalStoreId,
    /// An adapter: the store's access token, for grants that send it
    #[arg(long, env = "ACCESS_TOKEN", hide_env_values = true)]
    access_token: Option<String>,
    /// An adapter: the time that it is told [default: now]
    #[arg(long, value_name = "RFC 3339", value_parser = time)]
    now: Option<Time>,
}

fn receipt(text: &str) -> Result<Receipt, wharf_domain::Invalid> {
    Receipt::parse(text)
}

fn currency(text: &str) -> Result<Currency, wharf_domain::Invalid> {
    Currency::parse(text)
}

fn external_store_id(text: &str) -> Result<ExternalStoreId, wharf_domain::Invalid> {
    ExternalStoreId::parse(text)
}

fn time(text: &str) -> Result<Time, String> {
    Time::parse(text).ok_or_else(|| "must be RFC 3339, such as 2026-01-31T12:00:00Z".into())
}

impl QuestionArgs {
    pub(super) fn request(&self) -> anyhow::Result<ValidateRequest> {
        let token = self
            .access_token
            .as_deref()
            .map(AccessToken::parse)
            .transpose();
        Ok(ValidateRequest {
            receipt: self.receipt.clone(),
            currency: self.currency,
            external_store_id: self.external_store_id.clone(),
            now: self.now.unwrap_or_else(|| SystemClock.now()),
            access_token: token.map_err(|why| UsageError::new(format!("ACCESS_TOKEN {why}")))?,
            store_id: None,
            request_id: None,
        })
    }
}
