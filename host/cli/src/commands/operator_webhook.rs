//! `wharf operator-webhook`: webhooks that tell the operator of the host's own events.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use wharf_egress::Method;

use crate::{
    operator::{HostArgs, Operator},
    output::{self, Format, table, text},
    settings::overlap,
};

/// `wharf operator-webhook`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf operator-webhook add endpoint.disabled https://hooks.example.com/ops
  wharf operator-webhook add plugin.quarantined https://hooks.slack.com/services/... --shaper slack
  wharf operator-webhook list

Events: endpoint.disabled, plugin.quarantined, plugin.rolled_back.")]
pub(crate) struct OperatorWebhookArgs {
    #[command(subcommand)]
    command: OperatorWebhookCommand,
}

#[derive(Subcommand)]
enum OperatorWebhookCommand {
    /// Add a webhook, and print its signing secret.
    Add(AddArgs),
    /// All of them.
    List(HostArgs),
    /// Send an event named webhook.test to one.
    Test(OneArgs),
    /// Give one a new signing secret, and print it.
    Rotate(RotateArgs),
    /// Enable one that was disabled.
    Enable(OneArgs),
    /// Remove one, with its deliveries.
    Remove(OneArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf operator-webhook add endpoint.disabled https://hooks.example.com/ops
  wharf operator-webhook add plugin.quarantined https://hooks.slack.com/services/... --shaper slack")]
struct AddArgs {
    /// The event: endpoint.disabled, plugin.quarantined or plugin.rolled_back
    event: String,
    /// Where to send it
    target_url: String,
    /// The plugin that shapes its payloads [default: standard]
    #[arg(long)]
    shaper: Option<String>,
    /// Sign by a key pair (v1a) too
    #[arg(long)]
    asymmetric: bool,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Args)]
struct OneArgs {
    /// The webhook's id
    id: String,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Args)]
struct RotateArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Time during which the old secret signs too, at most 7 days
    #[arg(long, default_value = "24h", value_parser = overlap)]
    overlap: Duration,
}

const PATH: &str = "/operator-webhooks";

/// Runs the subcommand.
pub(crate) async fn run(args: OperatorWebhookArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        OperatorWebhookCommand::Add(args) => {
            let body = json!({
                "event": args.event, "targetUrl": args.target_url, "shaper": args.shaper,
                "asymmetric": args.asymmetric,
            });
            let webhook = Operator::new(&args.host)?.post(PATH, &body).await?;
            output::answer(format, &webhook, added)
        }
        OperatorWebhookCommand::List(host) => {
            let webhooks = Operator::new(&host)?.get(PATH, &[]).await?;
            output::answer(format, &webhooks, list)
        }
        OperatorWebhookCommand::Test(one) => {
            let sent = post(&one, "test", &json!({})).await?;
            output::answer(format, &sent, |sent| {
                format!("on its way, as event {}", text(&sent["eventId"]))
            })
        }
        OperatorWebhookCommand::Rotate(args) => {
            let body = json!({"overlapSeconds": args.overlap.as_secs()});
            let secret = post(&args.one, "secret/rotate", &body).await?;
            output::answer(format, &secret, |secret| text(&secret["secret"]))
        }
        OperatorWebhookCommand::Enable(one) => {
            let webhook = post(&one, "enable", &json!({})).await?;
            output::answer(format, &webhook, |webhook| {
                format!("{} is active", text(&webhook["id"]))
            })
        }
        OperatorWebhookCommand::Remove(one) => remove(&one, format).await,
    }
}

async fn post(one: &OneArgs, action: &str, body: &Value) -> anyhow::Result<Value> {
    let path = format!("{PATH}/{}/{action}", one.id);
    Operator::new(&one.host)?.post(&path, body).await
}

/// Over as many requests as it takes: one removes 10,000 deliveries at most.
async fn remove(one: &OneArgs, format: Format) -> anyhow::Result<()> {
    let (operator, path) = (Operator::new(&one.host)?, format!("{PATH}/{}", one.id));
    let request = || operator.request(Method::DELETE, &path);
    while operator.ask(request()).await?["more"] == true {}
    let removed = json!({"id": one.id, "removed": true});
    output::answer(format, &removed, |removed| {
        format!("{} is removed", text(&removed["id"]))
    })
}

fn added(webhook: &Value) -> String {
    let id = text(&webhook["id"]);
    match webhook["secret"].as_str() {
        Some(secret) => format!("{id}\nits signing secret, shown once: {secret}"),
        None => {
            format!("{id} is there already; `wharf operator-webhook rotate` gives a new secret")
        }
    }
}

fn list(webhooks: &Value) -> String {
    let header = ["ID", "EVENT", "URL", "SHAPER", "STATE"];
    let rows = webhooks["items"].as_array().into_iter().flatten();
    let rows = rows.map(|webhook| {
        let column = |name: &str| text(&webhook[name]);
        let failures = webhook["consecutiveFailures"].as_i64().unwrap_or(0);
        let state = if webhook["isActive"] == false {
            format!("disabled: {}", column("disabledReason"))
        } else if failures > 0 {
            format!("active, {failures} failures in a row")
        } else {
            "active".into()
        };
        [
            column("id"),
            column("event"),
            column("targetUrl"),
            column("shaper"),
            state,
        ]
    });
    table(header, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_where_there_is_one() {
        let new = added(&json!({"id": "w1", "secret": "whsec_a"}));
        assert!(new.starts_with("w1") && new.ends_with("whsec_a"), "{new}");
        assert!(added(&json!({"id": "w1"})).contains("already"));
        let shown =
            list(&json!({"items": [{"id": "w1", "isActive": false, "disabledReason": "410"}]}));
        assert!(shown.contains("disabled: 410"), "{shown}");
    }
}
