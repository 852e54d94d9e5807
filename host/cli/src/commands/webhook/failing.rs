//! The webhooks of all organizations that an operator should look at.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::state;
use crate::{
    commands::dead_letters::owner,
    listing::{self, PartArgs, with_more},
    operator::{HostArgs, Operator},
    output::{self, Format, table, text},
};

/// The state of the webhooks to show.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Active, with failures since their last success
    Failing,
    /// Sent nothing
    Disabled,
    /// Every one
    All,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf webhook failing
  wharf webhook failing --state disabled --org org-1
  wharf --json webhook failing --state all --limit 1000")]
pub(super) struct FailingArgs {
    /// Only in this state
    #[arg(long, value_enum, default_value_t = State::Failing)]
    state: State,
    /// Only of this organization
    #[arg(long)]
    org: Option<String>,
    /// Only for this event
    #[arg(long)]
    event: Option<String>,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Shows them.
pub(super) async fn run(args: FailingArgs, format: Format) -> anyhow::Result<()> {
    let operator = Operator::new(&args.host)?;
    let state = match args.state {
        State::Failing => Some("failing".to_owned()),
        State::Disabled => Some("disabled".to_owned()),
        State::All => None,
    };
    let filter = [
        ("state", state),
        ("organizationId", args.org),
        ("event", args.event),
    ];
    let page = listing::list(&operator, "/webhooks", &filter, &args.part).await?;
    output::answer(format, &page, shown)
}

fn shown(page: &Value) -> String {
    let header = [
        "ID",
        "ORGANIZATION",
        "EVENT",
        "URL",
        "STATE",
        "SINCE",
        "DUE",
        "LAST ERROR",
    ];
    let webhooks = page["items"].as_array().into_iter().flatten();
    let rows = webhooks.map(|webhook| {
        let column = |name: &str| text(&webhook[name]);
        let health = &webhook["health"];
        [
            column("id"),
            owner(webhook),
            column("event"),
            column("targetUrl"),
            state(webhook),
            text(&health["failingSince"]),
            due(health),
            text(&health["lastError"]),
        ]
    });
    with_more(table(header, rows), page)
}

/// Deliveries that wait. The host counts no further than a thousand.
fn due(health: &Value) -> String {
    const MAX: i64 = 1_000;
    match health["dueDeliveries"].as_i64() {
        Some(due) if due >= MAX => format!("{MAX} or more"),
        _ => text(&health["dueDeliveries"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_webhook_that_fails_is_told_with_its_health() {
        let health = json!({"consecutiveFailures": 3, "failingSince": "2026-01-01T00:00:00.000Z",
            "lastError": "10.0.0.7: refused", "dueDeliveries": 1_000});
        let webhook =
            json!({"id": "w1", "organizationId": "org-1", "isActive": true, "health": health});
        let shown = shown(&json!({"items": [webhook], "nextCursor": null}));
        for part in [
            "org-1",
            "3 failures in a row",
            "10.0.0.7: refused",
            "1000 or more",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
