//! The schema and the programs on it: a newer one after a rollback, and a host that may not change it.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};
use wharf_tests::{Backend, Host, Ledger, Receiver, Shop, Site, on_every_backend};

/// Adds what a migration may add, to every table: a column with a default and one without, an index, and a table that
/// refers to others.
async fn migrate_further(site: &Site) -> Result<()> {
    let ledger = Ledger::open(site).await?;
    let tables = match site.backend() {
        Backend::Embedded => {
            "select name from sqlite_schema where type = 'table' and name not like '%sqlx%' and name not like 'sqlite%'"
        }
        Backend::Postgres => {
            "select table_name as name from information_schema.tables where table_schema = 'public'
             and table_name not like '%sqlx%'"
        }
    };
    let tables = ledger.rows(tables).await?;
    ensure!(tables.len() > 5, "{tables:?}");
    for table in tables {
        let table = table["name"].as_str().context("a name")?;
        for change in [
            format!("alter table {table} add column later_note text"),
            format!("alter table {table} add column later_count bigint not null default 7"),
            format!("create index later_{table} on {table} (later_count)"),
        ] {
            ledger
                .execute(&change.replace(
                    "bigint",
                    match site.backend() {
                        Backend::Embedded => "integer",
                        Backend::Postgres => "bigint",
                    },
                ))
                .await?;
        }
    }
    for change in [
        "create table later (endpoint_id text, note text)",
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'later', true, '', 1)",
    ] {
        ledger.execute(change).await?;
    }
    Ok(())
}

/// A release is rolled back: the older program goes on, on the schema that the newer one left.
async fn an_older_program_works_on_a_newer_schema(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site.host().start().await?;
    let shop = Shop::open(&host, "org", "etsy").await?;
    ensure!(host.stop().await?.success());
    migrate_further(&site).await?;

    let host = site.host().start().await?;
    let receiver = Receiver::start().await?;
    let webhook =
        json!({"organizationId": "org", "event": "sync.completed", "targetUrl": receiver.url()});
    let registered = host.post("/webhooks/register", &webhook).await?;
    ensure!(
        registered.status == 201 || registered.status == 200,
        "{}",
        registered.text
    );
    ensure!(shop.import(&host, "order-101").await?["success"] == true);
    // Rate-limited, and refused: the second is asked about again in the next run.
    ensure!(shop.import(&host, "order-115").await?["success"] == false);
    ensure!(shop.import(&host, "order-102").await?["success"] == false);
    // A second store: a row of each table is written anew.
    let other = Shop::open(&host, "other", "shopify").await?;
    ensure!(other.import(&host, "order-101").await?["success"] == true);
    shop.request_sync(&host).await?;
    receiver.wait_for_event("sync.completed").await?;
    for words in [
        &["migrate"][..],
        &["keys", "status"],
        &["scheduler", "sync"],
    ] {
        let (status, printed) = site.host().command(words).run().await?;
        ensure!(status.success(), "{words:?}: {printed}");
    }
    Ok(())
}

on_every_backend!(an_older_program_works_on_a_newer_schema);

/// Makes a role that may read and write what is there, and change no schema; returns the URL with it.
async fn role_without_ddl(site: &Site, role: &str) -> Result<String> {
    let pool = site.database().pool().await?;
    for statement in [
        format!("create role {role} login password 'a-password'"),
        format!("grant select, insert, update, delete on all tables in schema public to {role}"),
        format!("grant usage on all sequences in schema public to {role}"),
        "revoke create on schema public from public".into(),
    ] {
        pool.execute(AssertSqlSafe(statement)).await?;
    }
    let mut url = reqwest::Url::parse(site.database().url())?;
    let refused = "a URL that takes a user";
    url.set_username(role).ok().context(refused)?;
    url.set_password(Some("a-password")).ok().context(refused)?;
    Ok(url.into())
}

#[test]
fn a_host_needs_no_right_to_change_the_schema() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let (status, printed) = site.host().command(&["migrate"]).run().await?;
        ensure!(status.success(), "{printed}");
        let role = format!("{}_app", site.database().name());
        let url = role_without_ddl(&site, &role).await?;
        let ended = serve_both_ways(&site, &url).await;
        // Roles belong to the server and would stay after the database.
        let pool = site.database().pool().await?;
        for statement in [format!("drop owned by {role}"), format!("drop role {role}")] {
            pool.execute(AssertSqlSafe(statement)).await?;
        }
        ended
    })
}

/// With MIGRATE=check, and with its default too where there is nothing to change.
async fn serve_both_ways(site: &std::sync::Arc<Site>, url: &str) -> Result<()> {
    for migrate in ["check", "auto"] {
        let host = site.host().env("DATABASE_URL", url).env("MIGRATE", migrate);
        let mut host = host.start().await?;
        let shop = Shop::open(&host, migrate, "etsy").await?;
        ensure!(shop.import(&host, "order-101").await?["success"] == true);
        ensure!(host.stop().await?.success());
    }
    Ok(())
}

#[test]
fn postgresql_shows_the_roles_of_each_process() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let _all: Host = site.host().start().await?;
        let _api = site.host().role("api").start().await?;
        let _workers = site
            .host()
            .role("sync-worker")
            .role("callback-worker")
            .start()
            .await?;
        let named = site.host().command(&["worker", "sync"]);
        let url = format!("{}?application_name=orders", site.database().url());
        let _named = named.env("DATABASE_URL", &url).start().await?;
        let ledger = Ledger::open(&site).await?;
        for name in [
            "wharf all roles",
            "wharf api",
            "wharf sync-worker callback-worker",
            "orders sync-worker",
        ] {
            ledger
                .wait_for(&format!(
                    "select 1 as found from pg_stat_activity where datname = current_database()
                     and application_name = '{name}' limit 1"
                ))
                .await?;
        }
        Ok(())
    })
}
