//! `wharf export`: the data of an organization, as lines of JSON.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::{Context, ensure};
use clap::{ArgGroup, Args};
use serde_json::json;
use wharf_domain::{Clock, OrganizationId, SystemClock};
use wharf_store::{
    Ledger,
    export::{self, Export},
};

use crate::{
    output,
    settings::{DataArgs, DatabaseArgs, SettingError, database_help},
    whole_file::WholeFile,
    wiring,
};

/// The number of the form of the lines. It rises with every change that readers must know of; new fields are none.
const FORMAT: u32 = 1;

/// `wharf export`.
#[derive(Args)]
#[command(group = ArgGroup::new("whose").required(true), after_help = concat!("\
Examples:
  wharf export --organization acme --output acme.ndjson
  wharf export --organization acme | jq 'select(.type == \"receipt\") | {receipt, orderId, amount}'
  wharf export --all | gzip > all.ndjson.gz

Each line is an object with a `type`: first `export`, then `store`, `receipt`, `webhook`, `delivery`, `attempt` and `event`,
and last `end` with the number of each: a file without it was cut off. Times are RFC 3339, money is text. Access tokens, sync
tokens and signing secrets are never in it.

Hosts may work meanwhile. Each line is its row as it was when it was read: what is made or changed after the beginning may be
in it or not.", database_help!()))]
pub(crate) struct ExportArgs {
    /// The organization whose data is exported
    #[arg(long, group = "whose", value_parser = organization)]
    organization: Option<OrganizationId>,
    /// Every organization's data
    #[arg(long, group = "whose")]
    all: bool,
    /// The file to write, for its owner alone; it appears when it is whole. Default: stdout
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

fn organization(text: &str) -> Result<OrganizationId, String> {
    OrganizationId::parse(text).map_err(|error| error.to_string())
}

impl ExportArgs {
    /// Tells what clap could not judge.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        self.database.check(wrong);
    }
}

/// Writes the export.
pub(crate) async fn run(args: ExportArgs) -> anyhow::Result<()> {
    // Before anything is read: a name that is taken should not be found out after an hour.
    let mut file = match &args.output {
        Some(path) => Some(WholeFile::begin(path, args.force)?),
        None => None,
    };
    let ledger = wiring::open_ledger(&args.data, &args.database, "export").await?;
    ledger.check_schema().await?;
    let lines = Export::new(&ledger, args.organization.clone());
    let whose = args.organization.as_ref().map(OrganizationId::as_str);
    let counts = match &mut file {
        Some(file) => write(lines, &ledger, whose, file.file()).await?,
        None => write(lines, &ledger, whose, io::stdout()).await?,
    };
    ledger.close().await;
    if let Some(file) = file {
        file.finish()?;
    }
    let all: Vec<String> = counts
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    output::complain(&format!("exported: {}", all.join(", ")));
    Ok(())
}

async fn write(
    mut lines: Export,
    ledger: &Ledger,
    organization: Option<&str>,
    to: impl Write,
) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let mut to = BufWriter::new(to);
    let (clock, shown) = (SystemClock, io::stderr().is_terminal());
    let mut counts: BTreeMap<&'static str, u64> = export::kinds().map(|kind| (kind, 0)).collect();
    let started = clock.now().to_string();
    let mut next = lines.next(ledger).await?;
    ensure!(
        next.is_some() || organization.is_none(),
        "there is nothing of organization {}",
        organization.unwrap_or_default()
    );
    let head = json!({"type": "export", "format": FORMAT, "wharf": env!("CARGO_PKG_VERSION"),
        "organizationId": organization, "startedAt": started});
    line(&mut to, &head.to_string())?;
    while let Some(page) = next {
        for text in &page.lines {
            line(&mut to, text)?;
        }
        *counts.entry(page.kind).or_default() += page.lines.len() as u64;
        if shown {
            // Progress is a courtesy: a terminal that has gone away ends no export.
            let _ = write!(io::stderr(), "\r{} lines", counts.values().sum::<u64>());
        }
        next = lines.next(ledger).await?;
    }
    if shown {
        output::complain("");
    }
    let end = json!({"type": "end", "counts": counts, "finishedAt": clock.now().to_string()});
    line(&mut to, &end.to_string())?;
    to.flush().context(UNWRITTEN)?;
    Ok(counts)
}

const UNWRITTEN: &str = "the export cannot be written";

fn line(to: &mut impl Write, text: &str) -> anyhow::Result<()> {
    writeln!(to, "{text}").context(UNWRITTEN)
}
