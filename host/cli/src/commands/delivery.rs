//! `wharf delivery`: list, show and resend deliveries of a running host.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    output::{self, Format, table, text},
    remote::{Remote, RemoteArgs},
};

/// `wharf delivery`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf delivery list --webhook 0190a5e4-7b1c-7def-8abc-0123456789ab --state failed
  wharf delivery show 0190a5e4-7b1c-7def-8abc-0123456789ac
  wharf delivery resend 0190a5e4-7b1c-7def-8abc-0123456789ac")]
pub(crate) struct DeliveryArgs {
    #[command(subcommand)]
    command: DeliveryCommand,
}

#[derive(Subcommand)]
enum DeliveryCommand {
    /// Deliveries of a webhook or of an event, newest first.
    List(ListArgs),
    /// One delivery with its attempts and the receiver's answers.
    Show(OneArgs),
    /// Send one delivery again, now, with the same bytes.
    Resend(OneArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf delivery list --webhook 0190a5e4-7b1c-7def-8abc-0123456789ab --state failed
  wharf delivery list --event 0190a5e4-7b1c-7def-8abc-0123456789ab")]
struct ListArgs {
    #[command(flatten)]
    of: OfArgs,
    /// Only deliveries in this state: pending, success or failed
    #[arg(long, requires = "webhook")]
    state: Option<String>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct OfArgs {
    /// The webhook's id
    #[arg(long)]
    webhook: Option<String>,
    /// The event's id
    #[arg(long)]
    event: Option<String>,
}

/// The page of a list.
#[derive(Args)]
pub(crate) struct PageArgs {
    /// Page size, up to 100
    #[arg(long)]
    limit: Option<u32>,
    /// `nextCursor` of the previous page
    #[arg(long)]
    cursor: Option<String>,
}

impl PageArgs {
    /// As parameters of a query.
    pub(crate) fn parameters(&self) -> [(&'static str, Option<String>); 2] {
        [
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("cursor", self.cursor.clone()),
        ]
    }
}

#[derive(Args)]
struct OneArgs {
    /// The delivery's id
    id: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the subcommand.
pub(crate) async fn run(args: DeliveryArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        DeliveryCommand::List(args) => {
            let path = match (&args.of.webhook, &args.of.event) {
                (Some(webhook), _) => format!("/webhooks/{webhook}/deliveries"),
                // clap has seen to it that exactly one of the two is given.
                (None, event) => format!(
                    "/events/{}/deliveries",
                    event.as_deref().unwrap_or_default()
                ),
            };
            let [limit, cursor] = args.page.parameters();
            let page = Remote::new(args.remote)?
                .get(&path, &[("state", args.state), limit, cursor])
                .await?;
            output::answer(format, &page, list)
        }
        DeliveryCommand::Show(one) => {
            let delivery = Remote::new(one.remote)?
                .get(&format!("/deliveries/{}", one.id), &[])
                .await?;
            output::answer(format, &delivery, show)
        }
        DeliveryCommand::Resend(one) => {
            let path = format!("/deliveries/{}/resend", one.id);
            let delivery = Remote::new(one.remote)?.post(&path, json!({})).await?;
            output::answer(format, &delivery, show)
        }
    }
}

/// A page of deliveries, for people.
pub(crate) fn list(page: &Value) -> String {
    let header = [
        "ID",
        "EVENT",
        "WEBHOOK",
        "STATE",
        "ATTEMPTS",
        "NEXT",
        "LAST ERROR",
    ];
    let rows = page["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|delivery| {
            [
                "id",
                "event",
                "webhookId",
                "state",
                "attempt",
                "nextAttemptAt",
                "lastError",
            ]
            .map(|name| text(&delivery[name]))
        });
    let mut table = table(header, rows);
    if let Some(shapers) = page["waitingForShaper"].as_str() {
        table = format!("{table}\nsome are not made yet: the event waits for the shaper {shapers}");
    }
    match page["nextCursor"].as_str() {
        Some(cursor) => format!("{table}\nmore: --cursor {cursor}"),
        None => table,
    }
}

fn show(delivery: &Value) -> String {
    let about = [
        "id",
        "event",
        "eventId",
        "webhookId",
        "state",
        "nextAttemptAt",
        "waitingForShaper",
        "createdAt",
    ];
    let about = table(
        ["", ""],
        about.map(|name| [name.to_owned(), text(&delivery[name])]),
    );
    let attempts = delivery["attempts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|attempt| {
            let latency = attempt["latencyMs"]
                .as_f64()
                .map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms"));
            let column = |name: &str| text(&attempt[name]);
            [
                column("attempt"),
                column("startedAt"),
                latency,
                column("httpStatus"),
                column("error"),
                column("response"),
            ]
        });
    let attempts = table(
        ["ATTEMPT", "STARTED", "TOOK", "STATUS", "ERROR", "ANSWER"],
        attempts,
    );
    format!("{about}\n\n{attempts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_say_where_they_go_on() {
        let delivery =
            json!({"id": "d1", "event": "sync.failed", "attempt": 3, "lastError": "no\nway"});
        let shown = list(&json!({"items": [delivery], "nextCursor": "d1"}));
        assert!(
            shown.contains("sync.failed") && shown.ends_with("more: --cursor d1"),
            "{shown}"
        );
        let attempt = json!({"attempt": 1, "latencyMs": 5.25, "httpStatus": 500, "response": "no"});
        let shown = show(&json!({"id": "d1", "attempts": [attempt]}));
        assert!(shown.contains("5.2 ms") && shown.contains("500"), "{shown}");
    }
}
