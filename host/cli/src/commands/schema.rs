//! `wharf schema`: print the schema of the database.

use clap::Args;
use wharf_store::{Backend, Ledger};

use crate::{
    output,
    settings::{DatabaseArgs, Deployment, SettingError, database_help},
};

/// `wharf schema`.
#[derive(Args)]
#[command(after_help = concat!("\
Examples:
  wharf schema > schema.sql
  DATABASE_URL=postgres://localhost/wharf wharf schema | less", database_help!()))]
pub(crate) struct SchemaArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

impl SchemaArgs {
    /// Tells what clap could not judge.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        self.database.check(wrong);
    }
}

/// Prints the migrations for the database that DATABASE_URL names, which is not asked.
pub(crate) fn run(args: &SchemaArgs) -> anyhow::Result<()> {
    output::line(&Ledger::schema(match args.database.deployment() {
        Deployment::Embedded => Backend::Sqlite,
        Deployment::Shared => Backend::Postgres,
    }));
    Ok(())
}
