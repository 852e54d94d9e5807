//! `wharf migrate`: bring the schema up to date.

use clap::Args;

use crate::{
    settings::{DataArgs, DatabaseArgs},
    wiring,
};

/// `wharf migrate`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf migrate
  DATABASE_URL=postgres://localhost/wharf wharf migrate

`wharf serve` does this by itself; run it alone where several processes start together.")]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Applies the migrations that are missing.
pub(crate) async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    args.database.check()?;
    let store = wiring::open_ledger(&args.data, &args.database).await?;
    store.migrate().await?;
    store.close().await;
    tracing::info!("the schema is up to date");
    Ok(())
}
