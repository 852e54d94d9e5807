//! `wharf backup`: a copy of the embedded database, while a host works on it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use wharf_store::backup;

use crate::{
    key::KeyArgs,
    output::{self, Format},
    settings::{
        DataArgs, DatabaseArgs, Deployment, SettingError, database_help, encryption_key_help,
    },
    whole_file::{WholeFile, refuse_folder},
};

/// `wharf backup`.
#[derive(Args)]
#[command(after_help = concat!("\
Examples:
  wharf backup /var/backups/wharf-$(date +%F).db
  wharf backup --force wharf.db --json

Hosts go on working. The file is the whole database of one moment; it is read from end to end before it gets its name.
The encryption key is NOT in it: keep a copy of the key elsewhere, without it nothing that is encrypted can be read.

PostgreSQL is backed up by pg_dump or by archiving its log. How to restore both: docs/backup.md", database_help!(),
    encryption_key_help!()))]
pub(crate) struct BackupArgs {
    /// The file to write, for its owner alone
    file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

impl BackupArgs {
    /// Tells what clap could not judge.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        self.database.check(wrong);
        wrong.extend(self.keys.check_form().err());
    }
}

/// Writes the backup and says what is not in it.
pub(crate) async fn run(args: BackupArgs, format: Format) -> anyhow::Result<()> {
    if args.database.deployment() == Deployment::Shared {
        bail!(
            "`wharf backup` is for SQLite. Back PostgreSQL up by `pg_dump --format=custom`, or by archiving its log, which \
             loses nothing: docs/backup.md tells how, and how to restore"
        );
    }
    let database = args.database.sqlite_path(&args.data.data_dir);
    let database = database.context("a database in memory cannot be backed up")?;
    if !database.is_file() {
        bail!("there is no database {}", database.display());
    }
    refuse_folder(&args.file)?;
    let file = WholeFile::begin(&args.file, args.force)?;
    let failed = || format!("{} cannot be backed up", database.display());
    backup::write(&database, file.beside())
        .await
        .with_context(failed)?;
    let checked = backup::check(file.beside()).await?;
    let bytes = file.finish()?;
    let keys: Vec<String> = checked.keys.iter().map(ToString::to_string).collect();
    let key_file = args.data.data_dir.join("key");
    let key_file = (args.keys.encryption_key.value().is_none() && key_file.is_file())
        .then(|| whole(&key_file));
    if format == Format::Json {
        output::json(
            &json!({"file": whole(&args.file), "bytes": bytes, "keyIds": keys, "keyFile": key_file}),
        )?;
        return Ok(());
    }
    output::line(&format!("{}: {bytes} bytes, checked", whole(&args.file)));
    let place = match key_file {
        Some(path) => format!("it lies in {path}"),
        None => "it is what WHARF_ENCRYPTION_KEY holds".into(),
    };
    if !keys.is_empty() {
        output::line(&format!(
            "The encryption key ({}) is not in it: {place}. Keep a copy of it elsewhere",
            keys.join(", ")
        ));
    }
    Ok(())
}

/// The path from the root, as somebody needs it who reads this later.
fn whole(path: &Path) -> String {
    std::path::absolute(path)
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}
