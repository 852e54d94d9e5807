//! `wharf plugin run`: one question to a component in a file.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use wharf_domain::{Answer, Event, OrganizationId, StoreId, Time};
use wharf_engine::{Kind, Message, inspect};

use super::{
    author::{FileArgs, sandbox},
    question::QuestionArgs,
    trace,
};
use crate::{
    output::{self, Format},
    usage::{UsageError, read},
};

/// `wharf plugin run`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf plugin run corner.wasm --receipt order-101
  wharf plugin run http-marketplace.wasm --receipt order-101 --grants http-marketplace.toml --trace
  wharf plugin run slack.wasm --event event.json

An event is {\"id\", \"kind\", \"timestamp\", \"organization_id\", \"store_id\", \"data\": {...}}; without --event a shaper gets
one that is made up. What the plugin logs goes to stderr. Exit code 1: it gave no answer.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    component: FileArgs,
    #[command(flatten)]
    question: QuestionArgs,
    /// An adapter: show each exchange with its marketplace, on stderr
    #[arg(long)]
    trace: bool,
    /// A shaper: the event to shape, as JSON
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
}

/// Asks once and prints the answer.
pub(super) async fn run(args: RunArgs, format: Format) -> anyhow::Result<()> {
    let (component, grants) = args.component.read()?;
    let engine = sandbox(args.component.compiling, Some(&args.component.secrets))?;
    match inspect(&component)?.kind {
        Kind::Adapter => {
            let asked = engine
                .validate_once(component, grants.as_deref(), args.question.request()?)
                .await?;
            // Before the answer, and also where there is none.
            if args.trace {
                trace::show(&asked.exchanges);
            }
            show_answer(&asked.answer?, format)
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
        Answer::Unavailable(reason)
        | Answer::Busy(reason, _)
        | Answer::Faulted(reason)
        | Answer::Deferred { reason, .. } => {
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
