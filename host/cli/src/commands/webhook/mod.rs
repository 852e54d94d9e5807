//! `wharf webhook`: operate the webhooks of a running host.

mod failing;

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::failing::FailingArgs;
use super::dead_letters::skipped;
use crate::{
    output::{self, Format, table, text},
    remote::{Remote, RemoteArgs},
    settings::overlap,
};

/// `wharf webhook`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf webhook list --org org-1
  wharf webhook test 0190a5e4-7b1c-7def-8abc-0123456789ab
  wharf webhook failing
  wharf --json webhook show 0190a5e4-7b1c-7def-8abc-0123456789ab")]
pub(crate) struct WebhookArgs {
    #[command(subcommand)]
    command: WebhookCommand,
}

#[derive(Subcommand)]
enum WebhookCommand {
    /// The organization's webhooks.
    List(RemoteArgs),
    /// One webhook and its health.
    Show(OneArgs),
    /// Send an event named webhook.test to one webhook.
    Test(OneArgs),
    /// Print a webhook's signing secret.
    Secret(OneArgs),
    /// Give a webhook a new signing secret, and print it.
    Rotate(RotateArgs),
    /// Enable a webhook and reset its health.
    Enable(OneArgs),
    /// Disable a webhook until it is enabled again.
    Disable(DisableArgs),
    /// Send deliveries that a webhook failed or missed since a time.
    Recover(RecoverArgs),
    /// Webhooks of all organizations that fail, or are disabled. For operators.
    Failing(FailingArgs),
}

#[derive(Args)]
struct OneArgs {
    /// The webhook's id
    id: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf webhook rotate 0190a5e4-7b1c-7def-8abc-0123456789ab
  wharf webhook rotate 0190a5e4-7b1c-7def-8abc-0123456789ab --overlap 0s    the old secret leaked")]
struct RotateArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Time during which the old secret signs too, at most 7 days
    #[arg(long, default_value = "24h", value_parser = overlap)]
    overlap: Duration,
}

#[derive(Args)]
struct DisableArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The reason, shown as `disabledReason`
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf webhook recover ID --since 2026-01-31T00:00:00Z --dry-run
  wharf webhook recover ID --since 2026-01-31T00:00:00Z --per-minute 60")]
struct RecoverArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Start of the outage, as in RFC 3339
    #[arg(long)]
    since: String,
    #[command(flatten)]
    spread: SpreadArgs,
}

/// Options for many deliveries.
#[derive(Args)]
pub(crate) struct SpreadArgs {
    /// Deliveries per minute [default: no limit]
    #[arg(long)]
    pub(crate) per_minute: Option<u32>,
    /// Only count them
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Runs the subcommand.
pub(crate) async fn run(args: WebhookArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        WebhookCommand::List(remote) => {
            let webhooks = every(&Remote::new(remote)?).await?;
            output::answer(format, &webhooks, list)
        }
        WebhookCommand::Show(one) => {
            let webhook = Remote::new(one.remote)?
                .get(&format!("/webhooks/{}", one.id), &[])
                .await?;
            output::answer(format, &webhook, show)
        }
        WebhookCommand::Test(one) => {
            let sent = post(one, "test", json!({})).await?;
            output::answer(format, &sent, |sent| {
                let delivery = text(&sent["deliveryId"]);
                format!("on its way: wharf delivery show {delivery}")
            })
        }
        WebhookCommand::Secret(one) => {
            let secret = Remote::new(one.remote)?
                .get(&format!("/webhooks/{}/secret", one.id), &[])
                .await?;
            output::answer(format, &secret, secrets)
        }
        WebhookCommand::Rotate(args) => {
            let body = json!({"overlapSeconds": args.overlap.as_secs()});
            let secret = post(args.one, "secret/rotate", body).await?;
            output::answer(format, &secret, secrets)
        }
        WebhookCommand::Enable(one) => {
            let webhook = post(one, "enable", json!({})).await?;
            output::answer(format, &webhook, show)
        }
        WebhookCommand::Disable(args) => {
            let webhook = post(args.one, "disable", json!({"reason": args.reason})).await?;
            output::answer(format, &webhook, show)
        }
        WebhookCommand::Failing(args) => failing::run(args, format).await,
        WebhookCommand::Recover(RecoverArgs { one, since, spread }) => {
            let body =
                json!({"since": since, "perMinute": spread.per_minute, "dryRun": spread.dry_run});
            let path = format!("/webhooks/{}/recover", one.id);
            let recovered = Remote::new(one.remote)?.post_all(&path, body).await?;
            output::answer(format, &recovered, |recovered| {
                let verb = if spread.dry_run {
                    "would be sent"
                } else {
                    "are being sent"
                };
                format!(
                    "{} failed and {} missed {verb}{}",
                    text(&recovered["failed"]),
                    text(&recovered["missed"]),
                    skipped(recovered)
                )
            })
        }
    }
}

/// All webhooks, page by page.
async fn every(remote: &Remote) -> anyhow::Result<Value> {
    let (mut webhooks, mut after) = (Vec::new(), None);
    loop {
        let page = remote.get("/webhooks", &[("after", after)]).await?;
        let Value::Array(page) = page else {
            bail!("the host answered no list");
        };
        // Up to the empty page: the client does not see the header with the link to the next one.
        let Some(last) = page.last() else {
            return Ok(webhooks.into());
        };
        let text = |name: &str| last[name].as_str().unwrap_or_default();
        after = Some(format!("{} {}", text("event"), text("targetUrl")));
        webhooks.extend(page);
    }
}

async fn post(one: OneArgs, action: &str, body: Value) -> anyhow::Result<Value> {
    Remote::new(one.remote)?
        .post(&format!("/webhooks/{}/{action}", one.id), body)
        .await
}

fn list(webhooks: &Value) -> String {
    let header = ["ID", "EVENT", "URL", "SHAPER", "RATE", "STATE"];
    let rows = webhooks.as_array().into_iter().flatten().map(|webhook| {
        let column = |name: &str| text(&webhook[name]);
        let rate = webhook["ratePerMinute"]
            .as_i64()
            .map_or_else(|| "-".into(), |rate| format!("{rate}/min"));
        [
            column("id"),
            column("event"),
            column("targetUrl"),
            column("shaper"),
            rate,
            state(webhook),
        ]
    });
    table(header, rows)
}

fn state(webhook: &Value) -> String {
    let failures = webhook["health"]["consecutiveFailures"]
        .as_i64()
        .unwrap_or(0);
    if webhook["isActive"] == false {
        format!("disabled: {}", text(&webhook["disabledReason"]))
    } else if let Some(until) = webhook["health"]["pausedUntil"].as_str() {
        format!("paused until {until} after {failures} failures")
    } else if failures > 0 {
        format!("active, {failures} failures in a row")
    } else {
        "active".into()
    }
}

fn show(webhook: &Value) -> String {
    let rate = webhook["ratePerMinute"].as_i64();
    let rows = [
        ("id", text(&webhook["id"])),
        ("event", text(&webhook["event"])),
        ("url", text(&webhook["targetUrl"])),
        ("shaper", text(&webhook["shaper"])),
        (
            "signatures",
            if webhook["asymmetric"] == true {
                "v1, v1a"
            } else {
                "v1"
            }
            .into(),
        ),
        (
            "rate",
            rate.map_or_else(|| "no limit".into(), |rate| format!("{rate} a minute")),
        ),
        ("state", state(webhook)),
        ("waiting for the shaper", text(&webhook["waitingEvents"])),
        ("failing since", text(&webhook["health"]["failingSince"])),
        ("registered", text(&webhook["createdAt"])),
        ("changed", text(&webhook["updatedAt"])),
    ];
    table(["", ""], rows.map(|(name, value)| [name.to_owned(), value]))
}

fn secrets(secret: &Value) -> String {
    let ends = secret["previousSecretsUntil"]
        .as_array()
        .into_iter()
        .flatten();
    let ends: String = ends
        .map(|end| format!("\na secret before it signs too until {}", text(end)))
        .collect();
    let public = secret["publicKey"]
        .as_str()
        .map(|key| format!("\npublic key of v1a: {key}"))
        .unwrap_or_default();
    format!("{}{public}{ends}", text(&secret["secret"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_says_what_an_operator_asks_first() {
        let health = json!({"consecutiveFailures": 12, "pausedUntil": "2026-01-01T00:00:00.000Z"});
        for (webhook, expected) in [
            (
                json!({"isActive": true, "health": {"consecutiveFailures": 0}}),
                "active",
            ),
            (
                json!({"isActive": true, "health": {"consecutiveFailures": 2}}),
                "active, 2 failures in a row",
            ),
            (
                json!({"isActive": true, "health": health}),
                "paused until 2026-01-01T00:00:00.000Z after 12 failures",
            ),
            (
                json!({"isActive": false, "disabledReason": "410", "health": health}),
                "disabled: 410",
            ),
        ] {
            assert_eq!(state(&webhook), expected);
        }
        let secret = json!({"secret": "whsec_a", "previousSecretsUntil": ["tomorrow"]});
        assert_eq!(
            secrets(&secret),
            "whsec_a\na secret before it signs too until tomorrow"
        );
    }
}
