//! `wharf migrate`: bring the schema up to date.

use clap::Args;

use crate::{
    settings::{DataArgs, DatabaseArgs, SettingError, database_help},
    wiring,
};

/// `wharf migrate`.
#[derive(Args)]
#[command(after_help = concat!("\
Examples:
  wharf migrate
  DATABASE_URL=postgres://localhost/wharf wharf migrate

`wharf serve` does this by itself, unless MIGRATE=check; run it alone with a database role that may change the schema.",
database_help!()))]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl MigrateArgs {
    /// Tells what clap could not judge.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        self.database.check(wrong);
    }
}

/// Applies the migrations that are missing.
pub(crate) async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let store = wiring::open_ledger(&args.data, &args.database, "migrate").await?;
    wiring::migrate(&store).await?;
    store.close().await;
    tracing::info!("the schema is up to date");
    Ok(())
}
