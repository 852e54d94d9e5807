//! `wharf receipt`: receipts of all stores of a running host, for its operator.

use std::io::{IsTerminal, Write};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    operator::{HostArgs, Operator},
    output::{self, Format, table, text},
};

/// Requests of one list. A filter that fits hardly anything looks at 10,000 receipts a request, a search at 1,000 stores.
const MAX_REQUESTS: usize = 100;
/// Receipts that a list shows where no limit is given.
const DEFAULT_LIMIT: usize = 50;
/// The most receipts of one page of the API.
const MAX_PER_PAGE: usize = 100;

/// `wharf receipt`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf receipt list --exhausted true
  wharf receipt list --receipt order-101
  wharf receipt show 0190a5e4-7b1c-7def-8abc-0123456789ab
  wharf receipt redrive --exhausted true --org org-1
  wharf receipt redrive --exhausted true --org org-1 --per-minute 600 --yes")]
pub(crate) struct ReceiptArgs {
    #[command(subcommand)]
    command: ReceiptCommand,
}

#[derive(Subcommand)]
enum ReceiptCommand {
    /// Receipts that did not succeed, of all stores; or those of one store, or of a name.
    List(ListArgs),
    /// One receipt with its attempts.
    Show(ShowArgs),
    /// Ask about receipts again that did not succeed. Only counts them without --yes.
    Redrive(RedriveArgs),
}

/// The receipts that are meant.
#[derive(Args)]
struct FilterArgs {
    /// Only of this organization
    #[arg(long)]
    org: Option<String>,
    /// Only of this store
    #[arg(long)]
    store: Option<String>,
    /// Only of stores at this marketplace
    #[arg(long)]
    marketplace: Option<String>,
    /// Only with this status: pending, success, failed or rate_limited
    #[arg(long)]
    status: Option<String>,
    /// Only those that are asked about no more (true), or only the others (false)
    #[arg(long)]
    exhausted: Option<bool>,
    /// Only those whose last error is exactly this text
    #[arg(long)]
    error: Option<String>,
    /// Only those imported at this time or later, as in RFC 3339
    #[arg(long)]
    since: Option<String>,
    /// Only those imported before this time
    #[arg(long)]
    until: Option<String>,
}

impl FilterArgs {
    fn members(&self) -> Value {
        json!({
            "organizationId": self.org, "storeId": self.store, "marketplace": self.marketplace, "status": self.status,
            "exhausted": self.exhausted, "error": self.error, "since": self.since, "until": self.until,
        })
    }

    fn parameters(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("organizationId", self.org.clone()),
            ("storeId", self.store.clone()),
            ("marketplace", self.marketplace.clone()),
            ("status", self.status.clone()),
            ("exhausted", self.exhausted.map(|rests| rests.to_string())),
            ("error", self.error.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
        ]
    }

    fn is_empty(&self) -> bool {
        self.parameters().iter().all(|(_, value)| value.is_none())
    }
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf receipt list --exhausted true --limit 200
  wharf receipt list --store ID --status failed
  wharf receipt list --order order-1b90c1 --marketplace etsy")]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Find this receipt
    #[arg(long, conflicts_with = "order")]
    receipt: Option<String>,
    /// Find the receipt whose order has this id at the marketplace
    #[arg(long)]
    order: Option<String>,
    /// Receipts to show
    #[arg(long, default_value_t = DEFAULT_LIMIT)]
    limit: usize,
    /// Where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Args)]
struct ShowArgs {
    /// The receipt's id in the log, as `list` shows it
    id: String,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf receipt redrive ID --yes
  wharf receipt redrive --store ID --status failed                         how many would it be?
  wharf receipt redrive --store ID --status failed --per-minute 600 --yes
  wharf receipt redrive --store ID --status failed --limit 10 --yes        a few first
  wharf receipt redrive --all --yes

Without --status, what the marketplace put off (rate_limited) keeps its time.")]
struct RedriveArgs {
    /// Only this receipt, by its id in the log
    id: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Everything that did not succeed, where no filter is given
    #[arg(long)]
    all: bool,
    /// Receipts per minute [default: no limit]
    #[arg(long)]
    per_minute: Option<u32>,
    /// Only so many of them, the newest first
    #[arg(long, requires = "yes")]
    limit: Option<u32>,
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

/// Runs the subcommand.
pub(crate) async fn run(args: ReceiptArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        ReceiptCommand::List(args) => {
            let page = list(&args).await?;
            output::answer(format, &page, shown)
        }
        ReceiptCommand::Show(args) => {
            let path = format!("/logs/{}", args.id);
            let log = Operator::new(&args.host)?.get(&path, &[]).await?;
            output::answer(format, &log, detail)
        }
        ReceiptCommand::Redrive(args) => redrive(&args, format).await,
    }
}

/// So many receipts, over as many requests as it takes.
async fn list(args: &ListArgs) -> anyhow::Result<Value> {
    let operator = Operator::new(&args.host)?;
    let (mut items, mut cursor) = (Vec::new(), args.cursor.clone());
    for _ in 0..MAX_REQUESTS {
        let wanted = (args.limit - items.len()).min(MAX_PER_PAGE);
        let mut parameters = args.filter.parameters();
        parameters.extend([
            ("receipt", args.receipt.clone()),
            ("orderId", args.order.clone()),
            ("limit", Some(wanted.to_string())),
            ("cursor", cursor),
        ]);
        let mut page = operator.get("/logs", &parameters).await?;
        if let Value::Array(more) = page["items"].take() {
            items.extend(more);
        }
        cursor = page["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() || items.len() >= args.limit {
            break;
        }
    }
    Ok(json!({"items": items, "nextCursor": cursor}))
}

fn shown(page: &Value) -> String {
    let header = [
        "ID",
        "STORE",
        "RECEIPT",
        "STATUS",
        "ATTEMPTS",
        "NEXT",
        "ORDER",
        "LAST ERROR",
    ];
    let logs = page["items"].as_array().into_iter().flatten();
    let rows = logs.map(|log| {
        let column = |name: &str| text(&log[name]);
        [
            column("id"),
            column("storeId"),
            column("receipt"),
            column("status"),
            column("attempt"),
            next(log),
            column("orderId"),
            column("lastError"),
        ]
    });
    let table = table(header, rows);
    match page["nextCursor"].as_str() {
        Some(cursor) => format!("{table}\nmore: --cursor {cursor}"),
        None => table,
    }
}

/// When it is asked about again.
fn next(log: &Value) -> String {
    if log["exhausted"] == true {
        "exhausted".into()
    } else {
        text(&log["nextAttemptAt"])
    }
}

fn detail(log: &Value) -> String {
    let about = [
        "id",
        "organizationId",
        "storeId",
        "marketplace",
        "receipt",
        "status",
        "nextAttemptAt",
        "orderId",
        "lastError",
        "refusals",
        "pluginFaults",
        "requestId",
        "createdAt",
        "updatedAt",
    ];
    let mut rows: Vec<[String; 2]> = about.map(|name| [name.to_owned(), text(&log[name])]).into();
    if log["exhausted"] == true {
        let mend = format!(
            "mend the cause, then: wharf receipt redrive {} --yes",
            text(&log["id"])
        );
        rows.push(["exhausted".into(), mend]);
    }
    let attempts = log["attempts"].as_array().into_iter().flatten();
    let attempts = attempts.map(|attempt| {
        let column = |name: &str| text(&attempt[name]);
        let revision = attempt["pluginDigest"].as_str().unwrap_or("-");
        [
            column("attempt"),
            column("at"),
            column("outcome"),
            format!("{} {revision:.12}", column("plugin")),
            column("requestId"),
            column("error"),
        ]
    });
    let header = ["ATTEMPT", "AT", "OUTCOME", "PLUGIN", "REQUEST", "ERROR"];
    format!("{}\n\n{}", table(["", ""], rows), table(header, attempts))
}

async fn redrive(args: &RedriveArgs, format: Format) -> anyhow::Result<()> {
    ensure!(
        args.id.is_some() || args.all || !args.filter.is_empty(),
        "say which receipts: an id, a filter such as --exhausted true, or --all"
    );
    let mut body = args.filter.members();
    body["logId"] = args.id.clone().into();
    body["perMinute"] = args.per_minute.into();
    body["limit"] = args.limit.into();
    body["dryRun"] = (!args.yes).into();
    body["cursor"] = args.cursor.clone().into();
    let operator = Operator::new(&args.host)?;
    let is_shown = std::io::stderr().is_terminal();
    if args.limit.is_some() {
        // One request, which tells where the rest begins.
        let done = operator.post("/logs/redrive", &body).await?;
        return output::answer(format, &done, |done| {
            let number = text(&done["redriven"]);
            let rest = done["nextCursor"].as_str();
            let rest = rest.map(|cursor| format!("; the others: --cursor {cursor}"));
            format!(
                "{number} receipts are asked about again{}",
                rest.unwrap_or_default()
            )
        });
    }
    let mut reached = None;
    let done = operator
        .post_all("/logs/redrive", body, |sum| {
            reached = Some((text(&sum["redriven"]), text(&sum["nextCursor"])));
            if is_shown {
                show_progress(&text(&sum["redriven"]));
            }
        })
        .await;
    if is_shown && reached.is_some() {
        output::complain("");
    }
    let done = match reached {
        None => done?,
        Some((number, cursor)) => done.with_context(|| {
            format!("stopped behind {number} receipts; the same with --cursor {cursor} goes on")
        })?,
    };
    output::answer(format, &done, |done| {
        let number = text(&done["redriven"]);
        if args.yes {
            format!("{number} receipts are asked about again")
        } else {
            format!("{number} receipts would be asked about again; with --yes they are")
        }
    })
}

/// One line on a terminal, written over and over.
fn show_progress(number: &str) {
    let mut stderr = std::io::stderr().lock();
    // Progress is a courtesy: a terminal that has gone away ends no redrive.
    let _ = write!(stderr, "\r{number} receipts");
    let _ = stderr.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_details_say_what_to_do_next() {
        let log = json!({"id": "l1", "receipt": "order-1", "status": "failed", "exhausted": true, "attempt": 10,
            "lastError": "no\nsuch", "attempts": [{"attempt": 10, "outcome": "refused", "plugin": "etsy",
            "pluginDigest": "0123456789abcdef0123"}]});
        let list = shown(&json!({"items": [log], "nextCursor": "c"}));
        assert!(
            list.contains("exhausted") && list.contains("no such"),
            "{list}"
        );
        assert!(list.ends_with("more: --cursor c"), "{list}");
        let one = detail(&log);
        assert!(one.contains("wharf receipt redrive l1 --yes"), "{one}");
        assert!(one.contains("etsy 0123456789ab "), "{one}");
    }
}
