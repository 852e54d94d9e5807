//! `wharf store`: list, show, hold, resume and remove stores of a running host.

use anyhow::bail;
use clap::{Args, Subcommand};
use percent_encoding::utf8_percent_encode;
use serde_json::{Value, json};
use wharf_egress::Method;

use super::delivery::PageArgs;
use crate::{
    operator::{HostArgs, Operator},
    output::{self, Format, table, text},
    remote::IN_A_QUERY,
};

/// `wharf store`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf store list --organization org-1 --status failed
  wharf store show 0190a5e4-7b1c-7def-8abc-0123456789ab
  wharf store hold 0190a5e4-7b1c-7def-8abc-0123456789ab --reason 'prices are wrong'
  wharf store hold --marketplace etsy --reason 'it refuses everything'
  wharf store resume --marketplace etsy
  wharf store remove 0190a5e4-7b1c-7def-8abc-0123456789ab

They ask a host's admin API with WHARF_API_KEY (an operator's key), WHARF_ADMIN_TOKEN, or the token in the data folder of a host
on this machine.")]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Stores of all organizations, newest first.
    List(ListArgs),
    /// One store: its counts, its job, its latest runs and faults.
    Show(OneArgs),
    /// Ask no marketplace for a store, an organization or a marketplace until it is resumed.
    Hold(HoldArgs),
    /// End such a hold; what waited is due at once.
    Resume(ResumeArgs),
    /// What is held, by whomever, newest first.
    Holds(HoldsArgs),
    /// Remove a store with its receipts, for ever.
    Remove(RemoveArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf store list --marketplace etsy --held true
  wharf store list --external-id ext-100
  wharf --json store list --organization org-1 --limit 100")]
struct ListArgs {
    /// Only of this organization
    #[arg(long)]
    organization: Option<String>,
    /// Only at this marketplace
    #[arg(long)]
    marketplace: Option<String>,
    /// Only with exactly this id there
    #[arg(long)]
    external_id: Option<String>,
    /// Only with this status: pending, success, partial or failed
    #[arg(long)]
    status: Option<String>,
    /// Only those that are held (true) or are not (false)
    #[arg(long)]
    held: Option<bool>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Args)]
struct OneArgs {
    /// The store's id
    id: String,
    #[command(flatten)]
    host: HostArgs,
}

/// What is held: exactly one of the three.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// The store's id
    id: Option<String>,
    /// All stores of this organization
    #[arg(long)]
    organization: Option<String>,
    /// All stores at this marketplace
    #[arg(long)]
    marketplace: Option<String>,
}

impl TargetArgs {
    fn body(&self) -> Value {
        // clap has seen to it that exactly one of them is given.
        let (what, name) = match (&self.organization, &self.marketplace) {
            (Some(name), _) => ("organization", Some(name)),
            (None, Some(name)) => ("marketplace", Some(name)),
            (None, None) => ("store", self.id.as_ref()),
        };
        json!({"what": what, "name": name})
    }
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf store hold 0190a5e4-7b1c-7def-8abc-0123456789ab --reason 'prices are wrong'
  wharf store hold --organization org-1
  wharf store hold --marketplace etsy --reason 'it refuses everything'")]
struct HoldArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The reason, for people
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Args)]
struct ResumeArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Args)]
struct HoldsArgs {
    /// Only of this kind: store, organization or marketplace
    #[arg(long)]
    what: Option<String>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf store remove 0190a5e4-7b1c-7def-8abc-0123456789ab          what would go; nothing is removed
  wharf store remove 0190a5e4-7b1c-7def-8abc-0123456789ab --yes    remove it")]
struct RemoveArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Remove it; without this, only count what would go
    #[arg(long)]
    yes: bool,
}

/// Runs the subcommand.
pub(crate) async fn run(args: StoreArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        StoreCommand::List(args) => {
            let [limit, cursor] = args.page.parameters();
            let parameters = [
                ("organizationId", args.organization),
                ("marketplace", args.marketplace),
                ("externalStoreId", args.external_id),
                ("syncStatus", args.status),
                ("held", args.held.map(|held| held.to_string())),
                limit,
                cursor,
            ];
            let page = Operator::new(&args.host)?
                .get("/stores", &parameters)
                .await?;
            output::answer(format, &page, list)
        }
        StoreCommand::Show(one) => {
            let store = Operator::new(&one.host)?.get(&path(&one.id), &[]).await?;
            output::answer(format, &store, show)
        }
        StoreCommand::Hold(args) => {
            let mut body = args.target.body();
            body["reason"] = args.reason.into();
            let hold = Operator::new(&args.host)?.post("/holds", &body).await?;
            output::answer(format, &hold, |hold| {
                format!("{} is held since {}", named(hold), text(&hold["since"]))
            })
        }
        StoreCommand::Resume(args) => {
            let body = args.target.body();
            let ended = Operator::new(&args.host)?
                .post("/holds/resume", &body)
                .await?;
            output::answer(format, &ended, |ended| {
                let what = named(&body);
                if ended["ended"] == true {
                    format!("{what} is not held by an operator any more")
                } else {
                    format!("{what} was not held by an operator")
                }
            })
        }
        StoreCommand::Holds(args) => {
            let [limit, cursor] = args.page.parameters();
            let parameters = [("what", args.what), limit, cursor];
            let page = Operator::new(&args.host)?
                .get("/holds", &parameters)
                .await?;
            output::answer(format, &page, |page| {
                with_cursor(holds(&page["items"]), page)
            })
        }
        StoreCommand::Remove(args) => remove(args, format).await,
    }
}

async fn remove(args: RemoveArgs, format: Format) -> anyhow::Result<()> {
    let operator = Operator::new(&args.one.host)?;
    let ask = async |dry_run: bool| {
        let path = format!("{}?dryRun={dry_run}", path(&args.one.id));
        operator.ask(operator.request(Method::DELETE, &path)).await
    };
    // Also with `--yes`: whoever reads along sees what goes.
    let would = ask(true).await?;
    if !args.yes {
        output::answer(format, &would, |would| {
            format!("would be removed: {}", removal(would))
        })?;
        bail!("nothing was removed: repeat it with --yes");
    }
    let removed = ask(false).await?;
    output::answer(format, &removed, |removed| {
        format!("removed: {}", removal(removed))
    })
}

fn path(id: &str) -> String {
    // Whatever was typed stays a part of the path, slashes and question marks too.
    format!("/stores/{}", utf8_percent_encode(id, IN_A_QUERY))
}

fn named(hold: &Value) -> String {
    format!("{} {}", text(&hold["what"]), text(&hold["name"]))
}

fn counted(count: &Value) -> String {
    let or_more = if count["isAtLeast"] == true {
        " or more"
    } else {
        ""
    };
    format!("{}{or_more}", text(&count["number"]))
}

fn removal(removal: &Value) -> String {
    format!(
        "store {} ({}) with {} receipts, {} of them orders; {} events that are not delivered yet stay",
        text(&removal["storeId"]),
        text(&removal["storeName"]),
        counted(&removal["receipts"]),
        text(&removal["importedOrders"]),
        text(&removal["pendingEvents"]),
    )
}

fn with_cursor(table: String, page: &Value) -> String {
    match page["nextCursor"].as_str() {
        Some(cursor) => format!("{table}\nmore: --cursor {cursor}"),
        None => table,
    }
}

fn list(page: &Value) -> String {
    let header = [
        "ID",
        "ORGANIZATION",
        "MARKETPLACE",
        "EXTERNAL ID",
        "NAME",
        "STATUS",
        "ORDERS",
        "HELD",
    ];
    let stores = page["items"].as_array().into_iter().flatten();
    let rows = stores.map(|store| {
        [
            "id",
            "organizationId",
            "marketplace",
            "externalStoreId",
            "storeName",
            "syncStatus",
            "importedOrders",
            "isHeld",
        ]
        .map(|name| text(&store[name]))
    });
    with_cursor(table(header, rows), page)
}

fn holds(holds: &Value) -> String {
    let rows = holds.as_array().into_iter().flatten().map(|hold| {
        ["what", "name", "side", "placedBy", "since", "reason"].map(|name| text(&hold[name]))
    });
    table(["HELD", "NAME", "BY", "PLACED BY", "SINCE", "REASON"], rows)
}

fn show(store: &Value) -> String {
    let open = &store["open"];
    let job = &store["job"];
    let or_more = if open["isAtLeast"] == true {
        " or more"
    } else {
        ""
    };
    let rows = [
        ("id", text(&store["id"])),
        ("organization", text(&store["organizationId"])),
        ("marketplace", text(&store["marketplace"])),
        ("external id", text(&store["externalStoreId"])),
        ("name", text(&store["storeName"])),
        ("status", text(&store["syncStatus"])),
        ("last asked", text(&store["lastSyncAt"])),
        ("held", text(&store["isHeld"])),
        ("receipts", counted(&store["receipts"])),
        ("orders", text(&store["importedOrders"])),
        ("failed", text(&open["failed"]) + or_more),
        ("rate-limited", text(&store["rateLimitedCount"])),
        ("pending", text(&open["pending"]) + or_more),
        ("exhausted", text(&open["exhausted"]) + or_more),
        ("due now", counted(&store["due"])),
        ("job", text(&job["state"])),
        ("job due", text(&job["dueAt"])),
        ("job error", text(&job["lastError"])),
        ("registered", text(&store["createdAt"])),
    ];
    let mut shown = table(["", ""], rows.map(|(name, value)| [name.to_owned(), value]));
    let is_empty = |name: &str| store[name].as_array().is_none_or(Vec::is_empty);
    if !is_empty("holds") {
        shown = format!("{shown}\n\n{}", holds(&store["holds"]));
    }
    if !is_empty("runs") {
        let header = ["RUN", "ENDED", "ASKED", "ORDERS", "FAILED", "RATE-LIMITED"];
        let names = [
            "event",
            "at",
            "processedCount",
            "successCount",
            "failedCount",
            "rateLimitedCount",
        ];
        shown = format!("{shown}\n\n{}", rows_of(header, names, &store["runs"]));
    }
    if !is_empty("faults") {
        let header = ["RECEIPT", "STATUS", "ATTEMPTS", "LAST", "ERROR"];
        let names = ["receipt", "status", "attempt", "at", "error"];
        shown = format!("{shown}\n\n{}", rows_of(header, names, &store["faults"]));
    }
    shown
}

fn rows_of<const N: usize>(header: [&str; N], names: [&str; N], items: &Value) -> String {
    let rows = items.as_array().into_iter().flatten();
    table(header, rows.map(|item| names.map(|name| text(&item[name]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_shown_with_what_is_wrong_with_it() {
        let store = json!({"id": "s1", "isHeld": true, "receipts": {"number": 10_000, "isAtLeast": true},
            "open": {"failed": 3}, "due": {"number": 2, "isAtLeast": false},
            "holds": [{"what": "marketplace", "name": "etsy", "side": "operator", "reason": "it is down"}],
            "runs": [], "faults": [{"receipt": "order-102", "error": "no such order"}]});
        let shown = show(&store);
        for words in ["10000 or more", "it is down", "order-102", "no such order"] {
            assert!(shown.contains(words), "{shown}");
        }
        assert!(
            !shown.contains("RATE-LIMITED"),
            "no runs, no table: {shown}"
        );
    }

    #[test]
    fn ids_cannot_leave_their_place_in_the_path() {
        assert_eq!(path("../x?y"), "/stores/..%2Fx%3Fy");
    }
}
