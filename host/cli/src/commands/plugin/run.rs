//! `wharf plugin run`: one question to a component in a file.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use wharf_domain::{
    AccessToken, Answer, Clock, Currency, Event, ExternalStoreId, OrganizationId, Receipt, StoreId,
    SystemClock, Time,
};
use wharf_engine::{Kind, Message, ValidateRequest, inspect};

use super::author::{FileArgs, sandbox};
use crate::{
    output::{self, Format},
    usage::{UsageError, read},
};

/// `wharf plugin run`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf plugin run corner.wasm --receipt order-101
  wharf plugin run http-marketplace.wasm --receipt order-101 --grants http-marketplace.toml
  wharf plugin run slack.wasm --event event.json

An event is {\"id\", \"kind\", \"timestamp\", \"organization_id\", \"store_id\", \"data\": {...}}; without --event a shaper gets
one that is made up. What the plugin logs goes to stderr. Exit code 1: it gave no answer.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    component: FileArgs,
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
    /// A shaper: the event to shape, as JSON
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
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

/// Asks once and prints the answer.
pub(super) async fn run(args: RunArgs, format: Format) -> anyhow::Result<()> {
    let (component, grants) = args.component.read()?;
    let engine = sandbox(args.component.compiling)?;
    match inspect(&component)?.kind {
        Kind::Adapter => {
            let answer = engine
                .validate_once(component, grants.as_deref(), args.request()?)
                .await??;
            show_answer(&answer, format)
        }
        Kind::Shaper => {
            let message = engine
                .shape_once(component, grants.as_deref(), args.event()?)
                .await??;
            show_message(&message, format)
        }
    }
}

impl RunArgs {
    fn request(&self) -> anyhow::Result<ValidateRequest> {
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
        })
    }

    fn event(&self) -> anyhow::Result<Event> {
        match &self.event {
            Some(file) => {
                let event: EventFile = serde_json::from_slice(&read(file)?)
                    .map_err(|error| UsageError::new(format!("{}: {error}", file.display())))?;
                event.parsed().with_context(|| file.display().to_string())
            }
            None => EventFile::made_up().parsed(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFile {
    id: String,
    kind: String,
    timestamp: String,
    organization_id: String,
    store_id: String,
    /// The object itself, or its text as vectors have it.
    data: Value,
}

impl EventFile {
    fn made_up() -> Self {
        Self {
            id: "0190a5e4-7b1c-7def-8abc-0123456789ab".into(),
            kind: "sync.completed".into(),
            timestamp: "2024-01-01T12:00:00.000Z".into(),
            organization_id: "org-123".into(),
            store_id: "0190a5e4-7b1c-7def-8abc-0123456789ac".into(),
            data: json!({"storeId": "0190a5e4-7b1c-7def-8abc-0123456789ac", "processedCount": 3, "successCount": 1,
                "failedCount": 1, "rateLimitedCount": 1}),
        }
    }

    fn parsed(self) -> anyhow::Result<Event> {
        Ok(Event {
            id: self.id.parse().context("id")?,
            kind: self.kind,
            at: Time::parse(&self.timestamp).context("timestamp: it is not RFC 3339")?,
            organization_id: OrganizationId::parse(&self.organization_id)
                .context("organization_id")?,
            store_id: self.store_id.parse::<StoreId>().context("store_id")?,
            data: match self.data {
                Value::String(text) => text,
                data => data.to_string(),
            },
        })
    }
}

fn show_answer(answer: &Answer, format: Format) -> anyhow::Result<()> {
    let (text, value) = match answer {
        Answer::Accepted(order) => (
            format!(
                "accepted: order {}, {} {}, at {}",
                order.id, order.amount, order.currency, order.imported_at
            ),
            json!({"accepted": {"id": order.id, "amount": order.amount.to_string(),
                "currency": order.currency.to_string(), "imported_at": order.imported_at.to_string()}}),
        ),
        Answer::Refused(reason) => (format!("rejected: {reason}"), json!({"rejected": reason})),
        Answer::RateLimited(wait) => {
            let seconds = wait.map(|wait| wait.as_secs());
            let told =
                seconds.map_or_else(String::new, |seconds| format!(", ask again in {seconds} s"));
            (
                format!("rate-limited{told}"),
                json!({"rate_limited": seconds}),
            )
        }
        Answer::Unavailable(reason) | Answer::Faulted(reason) | Answer::Deferred { reason, .. } => {
            bail!("the marketplace could not be asked: {reason}")
        }
    };
    match format {
        Format::Text => output::line(&text),
        Format::Json => output::json(&value)?,
    }
    Ok(())
}

fn show_message(message: &Message, format: Format) -> anyhow::Result<()> {
    let body = String::from_utf8_lossy(&message.body);
    if format == Format::Json {
        let value =
            json!({"content_type": message.content_type, "headers": message.headers, "body": body});
        return Ok(output::json(&value)?);
    }
    output::line(&format!("content-type: {}", message.content_type));
    message
        .headers
        .iter()
        .for_each(|(name, value)| output::line(&format!("{name}: {value}")));
    output::line(&format!("\n{body}"));
    Ok(())
}
