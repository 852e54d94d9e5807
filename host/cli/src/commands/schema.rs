//! `wharf schema`: print the schema of the database.

use clap::Args;
use wharf_store::{Backend, Ledger};

use crate::{
    output,
    settings::{DatabaseArgs, Deployment},
};

/// `wharf schema`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf schema > schema.sql
  DATABASE_URL=postgres://localhost/wharf wharf schema | less")]
pub(crate) struct SchemaArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Prints the migrations for the database that DATABASE_URL names, which is not asked.
pub(crate) fn run(args: &SchemaArgs) -> anyhow::Result<()> {
    args.database.check()?;
    output::line(&Ledger::schema(match args.database.deployment() {
        Deployment::Embedded => Backend::Sqlite,
        Deployment::Shared => Backend::Postgres,
    }));
    Ok(())
}
