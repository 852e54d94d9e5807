use std::time::Instant;

use clap::{Args, value_parser};
use wharf_app::{App, StoreRegistration};
use wharf_domain::{
    AccessToken, Clock, Currency, ExternalStoreId, MarketplaceName, OrganizationId, StoreName,
    SystemClock,
};
use wharf_store::fill;

use crate::{settings::Settings, wiring};

/// Whose the stores are.
const ORGANIZATION: &str = "fill";
/// Logs of one statement: its line of progress comes every second or two.
const SET: i64 = 100_000;

/// `wharf fill`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf fill                                   ten million logs over a thousand stores
  wharf fill --logs 200000 --stores 100        a small database

Run it again and it goes on where it was stopped.")]
pub(crate) struct FillArgs {
    /// How many logs there shall be
    #[arg(long, default_value = "10000000", value_parser = value_parser!(i64).range(1..))]
    logs: i64,
    /// Over how many stores, of the organization `fill`
    #[arg(long, default_value = "1000", value_parser = value_parser!(u32).range(1..))]
    stores: u32,
    #[command(flatten)]
    settings: Settings,
}

/// Makes stores and logs, and says how far it is.
pub(crate) async fn run(args: FillArgs) -> anyhow::Result<()> {
    args.settings.check()?;
    let host = wiring::open(&args.settings).await?;
    host.ledger.migrate().await?;
    for number in 0..args.stores {
        register(&host.app, number).await?;
    }
    tracing::info!(stores = args.stores, "stores are there");
    let (began, now) = (Instant::now(), SystemClock.now());
    let mut made = 0;
    for from in (1..=args.logs).step_by(usize::try_from(SET)?) {
        let to = args.logs.min(from + SET - 1);
        made += fill::logs(&mut host.ledger.write().await?, ORGANIZATION, from, to, now).await?;
        let (percent, seconds) = (to * 100 / args.logs, began.elapsed().as_secs());
        tracing::info!(logs = to, of = args.logs, percent, seconds, "filling");
    }
    tracing::info!("counting");
    fill::finish(&mut host.ledger.write().await?, ORGANIZATION).await?;
    let seconds = began.elapsed().as_secs();
    tracing::info!(made, stores = args.stores, seconds, "filled");
    host.close().await;
    Ok(())
}

async fn register(app: &App, number: u32) -> anyhow::Result<()> {
    let registration = StoreRegistration {
        organization_id: OrganizationId::parse(ORGANIZATION)?,
        marketplace: MarketplaceName::parse("etsy")?,
        external_store_id: ExternalStoreId::parse(&format!("store-{number}"))?,
        store_name: StoreName::parse("Filled")?,
        access_token: AccessToken::parse("filled")?,
        currency: Currency::parse("USD")?,
    };
    app.register_store(registration).await?;
    Ok(())
}
