//! `wharf copy`: move to another database.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use wharf_app::CopyProgress;
use wharf_domain::{Clock, SystemClock};
use wharf_egress::Url;
use wharf_store::{
    Ledger, LedgerSettings,
    copy::{self, Compared},
};

use crate::{
    key::KeyArgs,
    output::{self, Format},
    secret::Secret,
    settings::{
        DataArgs, DatabaseArgs, SettingError, check_database_url, database_help,
        encryption_key_help,
    },
    usage::UsageError,
    wiring,
};

/// `wharf copy`.
#[derive(Args)]
#[command(after_help = concat!("\
Examples:
  wharf copy --to postgres://wharf@db.internal/wharf        from the embedded database
  WHARF_COPY_TO=postgres://wharf:...@db.internal/wharf wharf copy
  wharf copy --from postgres://wharf@db.internal/wharf --to sqlite:/var/lib/wharf/wharf.db

Stop every `wharf` process first: what they write behind the place that was copied would be lost. The target must be new.
What is encrypted stays as it is: processes on the target need the same WHARF_ENCRYPTION_KEY, which is the content of the
file `key`. Stopped, it goes on where it was when it is repeated; until it has ended well no process starts on the target.
In the end all rows of both are compared. The source is left as it is.

A URL with a password does not go onto the command line, which others can read. Put it into a variable, or leave the
password to PGPASSWORD or ~/.pgpass:
  [env: WHARF_COPY_FROM]
  [env: WHARF_COPY_TO]", database_help!(), encryption_key_help!()))]
pub(crate) struct CopyArgs {
    /// The database to copy [default: WHARF_COPY_FROM, else the one of DATABASE_URL]
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// The new database [default: WHARF_COPY_TO]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    #[arg(skip = Secret::of_environment("WHARF_COPY_FROM"))]
    from_variable: Secret,
    #[arg(skip = Secret::of_environment("WHARF_COPY_TO"))]
    to_variable: Secret,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

impl CopyArgs {
    /// Tells what clap could not judge.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        self.database.check(wrong);
        wrong.extend(self.from_variable.check(check_database_url).err());
        wrong.extend(self.to_variable.check(check_database_url).err());
        wrong.extend(self.keys.check_form().err());
    }
}

/// Copies, compares and tells.
pub(crate) async fn run(args: CopyArgs, format: Format) -> anyhow::Result<()> {
    let from = given("--from", args.from.as_deref(), &args.from_variable)?;
    let from = from.unwrap_or_else(|| args.database.url(&args.data.data_dir));
    let to = given("--to", args.to.as_deref(), &args.to_variable)?;
    let to = to.ok_or_else(|| UsageError::new("name the new database by --to or WHARF_COPY_TO"))?;
    let (from, to) = (settings(&args.database, from), settings(&args.database, to));
    refuse_missing(&from)?;
    let keys = args.keys.given(&args.data)?.with_context(|| {
        format!(
            "the key is missing: set WHARF_ENCRYPTION_KEY to the one of the database, or WHARF_DATA_DIR to the folder of its \
             file `key` (not in {})",
            args.data.data_dir.display()
        )
    })?;
    let source = copy::open(&from, false).await.context("the source")?;
    let target = copy::open(&to, true).await.context("the target")?;
    let shown = std::io::stderr().is_terminal();
    let name = from.place()?;
    let compared = wharf_app::copy(&source, &target, &name, &keys, SystemClock.now(), |at| {
        // A log that is no terminal would keep every step of the line.
        if shown {
            show(&at);
        }
    })
    .await;
    if shown {
        output::complain("");
    }
    // After the line of progress is ended, or the error would stand behind it.
    let compared = compared?;
    close(source, target).await;
    report(&compared, &to.place()?, format)
}

/// The URL of a flag or a variable.
fn given(flag: &str, url: Option<&str>, variable: &Secret) -> anyhow::Result<Option<String>> {
    let Some(url) = url else {
        return Ok(variable.expose().map(str::to_owned));
    };
    check_database_url(url).map_err(|why| UsageError::new(format!("{flag} {why}")))?;
    let has_password = Url::parse(url).is_ok_and(|url| {
        url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password")
    });
    if has_password {
        let why = format!(
            "{flag} has a password, which others can read there: put the URL into a variable, see --help"
        );
        return Err(UsageError::new(why).into());
    }
    Ok(Some(url.to_owned()))
}

fn settings(database: &DatabaseArgs, url: String) -> LedgerSettings {
    wiring::ledger_settings(database, url, "copy")
}

fn refuse_missing(from: &LedgerSettings) -> anyhow::Result<()> {
    if let Some(path) = from.sqlite_path() {
        ensure!(
            Path::is_file(&path),
            "there is no database {}",
            path.display()
        );
    }
    Ok(())
}

async fn close(source: Ledger, target: Ledger) {
    source.close().await;
    target.close().await;
}

/// One line on a terminal, written over and over.
fn show(at: &CopyProgress<'_>) {
    let mut stderr = std::io::stderr().lock();
    // Progress is a courtesy: a terminal that has gone away ends no copy.
    let _ = match at {
        CopyProgress::Copied { table, rows } => {
            write!(stderr, "\r{rows} rows copied ({table})\x1b[K")
        }
        CopyProgress::Compared(table) => write!(
            stderr,
            "\rcompared: {} rows of {}\x1b[K",
            table.rows, table.table
        ),
    };
    let _ = stderr.flush();
}

fn report(compared: &[Compared], target: &str, format: Format) -> anyhow::Result<()> {
    let same = |table: &Compared| if table.is_same { "yes" } else { "NO" };
    match format {
        Format::Json => {
            let tables = compared.iter().map(|table| {
                json!({"table": table.table, "source": table.rows, "target": table.copied, "same": table.is_same})
            });
            output::json(&json!({"target": target, "tables": tables.collect::<Vec<Value>>()}))?;
        }
        Format::Text => output::line(&output::table(
            ["table", "source", "target", "same"],
            compared.iter().map(|table| {
                [
                    table.table.clone(),
                    table.rows.to_string(),
                    table.copied.to_string(),
                    same(table).into(),
                ]
            }),
        )),
    }
    let different: Vec<&str> = compared
        .iter()
        .filter(|table| !table.is_same)
        .map(|table| &*table.table)
        .collect();
    if !different.is_empty() {
        bail!(
            "not the same: {}. Somebody wrote into one of the databases meanwhile. Processes refuse the target; copy into a new \
             database, while none works on the source",
            different.join(", ")
        );
    }
    if format == Format::Text {
        output::line(&format!(
            "All is in {target}. Start every process there, with the same WHARF_ENCRYPTION_KEY, and none on the source: it would \
             send everything a second time"
        ));
    }
    Ok(())
}
