//! Dead letters of all organizations, for the operator of a host.

use std::io::IsTerminal;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::skipped;
use crate::{
    listing::{self, PartArgs, with_more},
    operator::{HostArgs, Operator},
    output::{self, Format, table, text},
};

/// The dead letters that are meant.
#[derive(Args)]
struct FilterArgs {
    /// Only of this organization
    #[arg(long)]
    org: Option<String>,
    /// Only of this webhook
    #[arg(long)]
    webhook: Option<String>,
    /// Only of this kind of event
    #[arg(long)]
    event: Option<String>,
    /// Only with this last answer: a status, a class such as 5xx, or none
    #[arg(long)]
    status: Option<String>,
    /// Only with these words in the last error
    #[arg(long)]
    error: Option<String>,
    /// Only those made at this time or later, as in RFC 3339
    #[arg(long)]
    since: Option<String>,
    /// Only those made before this time
    #[arg(long)]
    until: Option<String>,
}

impl FilterArgs {
    fn members(&self) -> [(&'static str, Option<String>); 7] {
        [
            ("organizationId", self.org.clone()),
            ("webhookId", self.webhook.clone()),
            ("event", self.event.clone()),
            ("status", self.status.clone()),
            ("error", self.error.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
        ]
    }

    fn is_empty(&self) -> bool {
        self.members().iter().all(|(_, value)| value.is_none())
    }
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf dead-letters search --status 5xx --since 2026-01-31T00:00:00Z
  wharf dead-letters search --org org-1 --error \"connection refused\" --limit 200")]
pub(super) struct SearchArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Shows them.
pub(super) async fn search(args: SearchArgs, format: Format) -> anyhow::Result<()> {
    let operator = Operator::new(&args.host)?;
    let filter = args.filter.members();
    let page = listing::list(&operator, "/dead-letters", &filter, &args.part).await?;
    output::answer(format, &page, shown)
}

fn shown(page: &Value) -> String {
    let header = [
        "ID",
        "ORGANIZATION",
        "EVENT",
        "WEBHOOK",
        "ATTEMPTS",
        "FAILED",
        "STATUS",
        "LAST ERROR",
    ];
    let letters = page["items"].as_array().into_iter().flatten();
    let rows = letters.map(|letter| {
        let column = |name: &str| text(&letter[name]);
        // Both keep it from being sent again.
        let mark = match (&letter["webhookIsActive"], &letter["hasBody"]) {
            (Value::Bool(false), _) => " (the webhook is disabled)",
            (_, Value::Bool(false)) => " (nothing to send)",
            _ => "",
        };
        [
            column("id"),
            owner(letter),
            column("event"),
            column("webhookId"),
            column("attempt"),
            column("failedAt"),
            column("httpStatus"),
            format!("{}{mark}", column("lastError")),
        ]
    });
    with_more(table(header, rows), page)
}

/// The organization; the operator's own have none.
pub(in crate::commands) fn owner(item: &Value) -> String {
    let organization = item["organizationId"].as_str();
    organization.map_or_else(|| "(operator)".into(), |_| text(&item["organizationId"]))
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf dead-letters redrive-all --status 5xx                       how many would it be?
  wharf dead-letters redrive-all --status 5xx --per-minute 600 --yes
  wharf dead-letters redrive-all --org org-1 --since 2026-01-31T00:00:00Z --yes
  wharf dead-letters redrive-all --all --yes")]
pub(super) struct RedriveAllArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Every one, where no filter is given
    #[arg(long)]
    all: bool,
    /// Deliveries per minute [default: no limit]
    #[arg(long)]
    per_minute: Option<u32>,
    /// Do it, instead of counting
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only count them, as without --yes
    #[arg(long)]
    dry_run: bool,
    /// Where an earlier redrive stopped
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    host: HostArgs,
}

/// Sends them again, or counts them.
pub(super) async fn redrive(args: RedriveAllArgs, format: Format) -> anyhow::Result<()> {
    ensure!(
        args.all || !args.filter.is_empty(),
        "say which dead letters: a filter such as --status 5xx, or --all"
    );
    let mut body = json!({
        "perMinute": args.per_minute, "dryRun": !args.yes, "cursor": args.cursor,
    });
    for (name, value) in args.filter.members() {
        body[name] = value.into();
    }
    let operator = Operator::new(&args.host)?;
    let (is_shown, mut reached) = (std::io::stderr().is_terminal(), None);
    let done = operator.post_all("/dead-letters/redrive", body, |sum| {
        if is_shown {
            output::complain(&format!("{} so far", text(&sum["redriven"])));
        }
        reached = Some(text(&sum["nextCursor"]));
    });
    let done = done.await.with_context(|| match &reached {
        // What was done is done: only the rest is left.
        Some(cursor) => format!("it stopped half-way; the rest: --cursor {cursor}"),
        None => "nothing was done".into(),
    })?;
    output::answer(format, &done, |done| {
        let number = text(&done["redriven"]);
        let said = if args.yes {
            format!("{number} are being sent again")
        } else {
            format!("{number} would be sent again; --yes sends them")
        };
        format!("{said}{}", skipped(done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_again_is_marked() {
        let letter = |active: bool, body: bool| json!({"organizationId": null, "webhookIsActive": active, "hasBody": body});
        for (letter, mark) in [
            (letter(true, true), ""),
            (letter(false, true), "the webhook is disabled"),
            (letter(true, false), "nothing to send"),
        ] {
            let shown = shown(&json!({"items": [letter], "nextCursor": "c1"}));
            assert!(
                shown.contains(mark) && shown.contains("(operator)"),
                "{shown}"
            );
            assert!(shown.ends_with("more: --cursor c1"), "{shown}");
        }
    }
}
