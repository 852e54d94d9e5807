//! `wharf dead-letters`: list them and send them again.

mod all;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use self::all::owner;

use super::{
    delivery::{self, PageArgs},
    webhook::SpreadArgs,
};
use crate::{
    output::{self, Format, text},
    remote::{Remote, RemoteArgs},
};

/// `wharf dead-letters`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf dead-letters list --org org-1
  wharf dead-letters redrive --since 2026-01-31T00:00:00Z --dry-run
  wharf dead-letters redrive --since 2026-01-31T00:00:00Z --per-minute 60
  wharf dead-letters search --status 5xx
  wharf dead-letters redrive-all --status 5xx --per-minute 600 --yes")]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Subcommand)]
enum DeadLettersCommand {
    /// Deliveries that failed for good, newest first.
    List(ListArgs),
    /// Send them again, with a full retry schedule.
    Redrive(RedriveArgs),
    /// Dead letters of all organizations, newest first. For operators.
    Search(all::SearchArgs),
    /// Send dead letters of any organization again. Only counts them without --yes. For operators.
    RedriveAll(all::RedriveAllArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Only of this webhook
    #[arg(long)]
    webhook: Option<String>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf dead-letters redrive --dry-run
  wharf dead-letters redrive --webhook ID --since 2026-01-31T00:00:00Z --per-minute 60")]
struct RedriveArgs {
    /// Only of this webhook
    #[arg(long)]
    webhook: Option<String>,
    /// Only those created since this time, as in RFC 3339
    #[arg(long)]
    since: Option<String>,
    #[command(flatten)]
    spread: SpreadArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the subcommand.
pub(crate) async fn run(args: DeadLettersArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        DeadLettersCommand::List(args) => {
            let [limit, cursor] = args.page.parameters();
            let parameters = [("webhookId", args.webhook), limit, cursor];
            let page = Remote::new(args.remote)?
                .get("/dead-letters", &parameters)
                .await?;
            output::answer(format, &page, delivery::list)
        }
        DeadLettersCommand::Redrive(args) => {
            let (per_minute, dry_run) = (args.spread.per_minute, args.spread.dry_run);
            let body = json!({
                "webhookId": args.webhook, "since": args.since, "perMinute": per_minute, "dryRun": dry_run,
            });
            let remote = Remote::new(args.remote)?;
            let redriven = remote.post_all("/dead-letters/redrive", body).await?;
            output::answer(format, &redriven, |redriven| {
                let verb = if dry_run {
                    "would be sent again"
                } else {
                    "are being sent again"
                };
                format!(
                    "{} {verb}{}",
                    text(&redriven["redriven"]),
                    skipped(redriven)
                )
            })
        }
        DeadLettersCommand::Search(args) => all::search(args, format).await,
        DeadLettersCommand::RedriveAll(args) => all::redrive(args, format).await,
    }
}

/// What was not sent, and why; nothing if all was.
pub(super) fn skipped(done: &Value) -> String {
    let number = |name: &str| done["skipped"][name].as_i64().unwrap_or(0);
    let mut said = String::new();
    if number("noBody") > 0 {
        said += &format!(
            "\n{} have nothing to send: their shaper failed on the event. `wharf delivery resend` asks it once more",
            number("noBody")
        );
    }
    if number("webhookDisabled") > 0 {
        said += &format!(
            "\n{} are of webhooks that are disabled: enable those first",
            number("webhookDisabled")
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told() {
        let none = json!({"skipped": {"noBody": 0, "webhookDisabled": 0}});
        assert_eq!((skipped(&none), skipped(&json!({}))), Default::default());
        let some = skipped(&json!({"skipped": {"noBody": 2, "webhookDisabled": 3}}));
        assert!(
            some.contains("\n2 have nothing") && some.contains("\n3 are of"),
            "{some}"
        );
    }
}
