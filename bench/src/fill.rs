//! A database full of logs, for looking at plans and speed where the tables are large. Every statement is bounded: logs go
//! in batch by batch, and the counters are summed up page by page of stores.

mod database;

use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, value_parser};
use uuid::Uuid;
use wharf_domain::{
    AccessToken, Clock, Currency, ExternalStoreId, MarketplaceName, OrganizationId, StoreId,
    StoreName, SyncToken, SystemClock,
};
use wharf_store::{
    EncryptionKey, KeyRing, Ledger, LedgerSettings,
    stores::{self, NewStore},
};

use database::Database;

/// The organization that the stores belong to.
const ORGANIZATION: &str = "fill";
/// Logs of one statement: about a second, and a line of progress.
const BATCH: i64 = 50_000;
/// Stores that are registered in one transaction.
const STORES: u32 = 500;
/// Logs that one statement counts.
const COUNTED: i64 = 250_000;

/// `wharf-bench fill`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf-bench fill                                   ten million logs over a thousand stores
  wharf-bench fill --logs 200000 --stores 100        a small database

Run it again and it goes on where it was stopped.")]
pub(crate) struct Arguments {
    /// Logs that there shall be in all
    #[arg(long, default_value = "10000000", value_parser = value_parser!(i64).range(1..))]
    logs: i64,
    /// Over how many stores, of the organization `fill`
    #[arg(long, default_value = "1000", value_parser = value_parser!(u32).range(1..))]
    stores: u32,
    /// The database: postgres://... or sqlite:PATH
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// The key of the hosts that are to use it: 64 hexadecimal digits
    #[arg(long, env = "WHARF_ENCRYPTION_KEY", hide_env_values = true, value_parser = parse_key)]
    encryption_key: KeyRing,
}

fn parse_key(text: &str) -> Result<KeyRing> {
    let bytes: Option<Vec<u8>> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect();
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes
        .map(|key| EncryptionKey::new(key).into())
        .context("must be 64 hexadecimal digits")
}

/// Makes the stores and the logs, and says how far it is.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    register_stores(arguments).await?;
    say(began, &format!("{} stores are there", arguments.stores));
    let mut database = Database::connect(&arguments.database_url).await?;
    let now = SystemClock.now();
    let mut made = 0;
    for from in (1..=arguments.logs).step_by(usize::try_from(BATCH)?) {
        let to = arguments.logs.min(from + BATCH - 1);
        made += database.insert_logs(ORGANIZATION, from, to, now).await?;
        let percent = to * 100 / arguments.logs;
        say(began, &format!("{to} logs, {percent} %"));
    }
    database.vacuum().await?;
    count(&mut database, arguments, began).await?;
    say(began, &format!("{made} logs were made"));
    Ok(())
}

/// Brings the stores' counters up to date.
async fn count(database: &mut Database, arguments: &Arguments, began: Instant) -> Result<()> {
    let logs_per_store = (arguments.logs / i64::from(arguments.stores)).max(1);
    let page = (COUNTED / logs_per_store).max(1);
    let mut counted = 0;
    for offset in (0..i64::from(arguments.stores)).step_by(usize::try_from(page)?) {
        counted += database.count(ORGANIZATION, offset, page).await?;
    }
    say(began, &format!("{counted} stores have their counters"));
    Ok(())
}

async fn register_stores(arguments: &Arguments) -> Result<()> {
    let ledger = Ledger::open(&LedgerSettings::new(&arguments.database_url)).await?;
    ledger.migrate().await?;
    for from in (0..arguments.stores).step_by(usize::try_from(STORES)?) {
        let mut tx = ledger.begin().await?;
        for number in from..arguments.stores.min(from + STORES) {
            let new = NewStore {
                id: StoreId(Uuid::now_v7()),
                sync_token: SyncToken(Uuid::new_v4()),
                organization_id: &OrganizationId::parse(ORGANIZATION)?,
                marketplace: &MarketplaceName::parse("etsy")?,
                external_store_id: &ExternalStoreId::parse(&format!("store-{number}"))?,
                store_name: &StoreName::parse("Filled")?,
                access_token: &AccessToken::parse("filled")?,
                currency: Currency::parse("USD")?,
                nonce: nonce(),
                token_nonce: nonce(),
            };
            stores::register(&mut tx, &arguments.encryption_key, &new, SystemClock.now()).await?;
        }
        tx.commit().await?;
    }
    ledger.close().await;
    Ok(())
}

/// Random bytes, from the random parts of two ids.
fn nonce() -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    nonce[16..].copy_from_slice(&Uuid::new_v4().as_bytes()[8..]);
    nonce
}

fn say(began: Instant, what: &str) {
    eprintln!("{:>6} s  {what}", began.elapsed().as_secs());
}

#[cfg(test)]
mod tests {
    use super::parse_key;

    #[test]
    fn keys_are_64_hexadecimal_digits() {
        assert!(parse_key(&"0a".repeat(32)).is_ok());
        for bad in ["", "0a", &"0g".repeat(32), &"0a".repeat(33), "ä"] {
            assert!(parse_key(bad).is_err(), "{bad}");
        }
    }
}
