//! How due work is found where the tables are large: by the partial indexes, without looking at what is finished.
//! 200,000 logs; ten million by `WHARF_TEST_LONG=1`.

mod filling;
mod values;

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};
use wharf_store::{Sql, statements};
use wharf_tests::{Backend, on_every_backend};

use self::{
    filling::{MIDDLING, fill_tables, settled_work},
    values::with_values,
};
use crate::{fixture::Fixture, operator_plans};

/// How a plan reads a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Entries of this index, and rows for them.
    Index(&'static str),
    /// Entries of this index and no row.
    IndexOnly(&'static str),
}
use Reads::{Index, IndexOnly};

/// The stores' primary key: both databases name it by themselves, and differently.
const STORES_BY_ID: &str = "(stores by id)";

/// The index of a store's receipts, as each database calls it.
const RECEIPTS: [&str; 2] = [
    "sync_logs_store_id_receipt_key",
    "sqlite_autoindex_sync_logs_2",
];

/// The statements that look for due work or for a store's latest logs.
const PLANS: &[(&str, Reads)] = &[
    ("logs::DUE", Index("sync_logs_due")),
    ("logs::HAS_DUE", IndexOnly("sync_logs_due")),
    ("logs::INSERT", Index("sync_logs_orders")),
    ("logs::settle::RETRY_FAILED", Index("sync_logs_unfinished")),
    (
        "logs::list::UNFINISHED",
        Index("sync_logs_unfinished_by_id"),
    ),
    ("logs::list::EXHAUSTED", Index("sync_logs_exhausted")),
    (
        "logs::list::UNFINISHED_OF_STORE",
        Index("sync_logs_unfinished"),
    ),
    ("logs::list::OF_STORE", Index("sync_logs_recent")),
    (
        "logs::list::BORDER_UNFINISHED",
        Index("sync_logs_unfinished_by_id"),
    ),
    ("logs::list::BORDER_EXHAUSTED", Index("sync_logs_exhausted")),
    (
        "logs::list::BORDER_UNFINISHED_OF_STORE",
        Index("sync_logs_unfinished"),
    ),
    ("logs::list::BORDER_OF_STORE", IndexOnly("sync_logs_recent")),
    (
        "logs::list::COUNT_UNFINISHED",
        Index("sync_logs_unfinished_by_id"),
    ),
    ("logs::list::COUNT_EXHAUSTED", Index("sync_logs_exhausted")),
    (
        "logs::list::COUNT_UNFINISHED_OF_STORE",
        Index("sync_logs_unfinished"),
    ),
    ("logs::search::BY_RECEIPT", Index(RECEIPTS[0])),
    ("logs::search::BY_ORDER", Index("sync_logs_orders")),
    ("logs::search::STORES", Index("stores_by_creation")),
    ("logs::attempts::PURGE", Index("sync_log_attempts_by_age")),
    (
        "logs::attempts::PLUGINS",
        Index("plugin_transitions_by_digest"),
    ),
    ("stores::PAGE", IndexOnly("sync_logs_due")),
    ("stores::RECENT", IndexOnly("sync_logs_recent")),
    ("jobs::DUE", Index("sync_jobs_due")),
    ("jobs::WAITING", Index("sync_jobs_due")),
    ("resting::PAGE", Index("sync_logs_resting")),
    ("outbox::CLAIM", Index("callback_outbox_due")),
    ("outbox::COUNT_DUE", IndexOnly("callback_outbox_due")),
    ("outbox::purge::PURGE", Index("callback_outbox_finished")),
    (
        "deliveries::queue::QUEUES",
        IndexOnly("callback_deliveries_due"),
    ),
    ("deliveries::claim::CLAIM", Index("callback_deliveries_due")),
    (
        "deliveries::queue::COUNT_DUE",
        Index("callback_deliveries_due"),
    ),
    (
        "stores::list::OF_ORGANIZATION",
        Index("stores_by_organization"),
    ),
    (
        "stores::list::OF_MARKETPLACE",
        Index("stores_by_marketplace"),
    ),
    (
        "stores::list::OF_EXTERNAL_ID",
        Index("stores_by_external_id"),
    ),
    ("stores::list::ALL_STORES", Index(STORES_BY_ID)),
    (
        "stores::list::END_OF_ORGANIZATION",
        IndexOnly("stores_by_organization"),
    ),
    ("stores::detail::OPEN", Index("sync_logs_unfinished")),
    ("stores::detail::FAULTS", Index("sync_logs_unfinished")),
    ("stores::detail::DUE_LOGS", IndexOnly("sync_logs_due")),
    (
        "stores::detail::RUNS",
        Index("callback_outbox_by_organization"),
    ),
    (
        "stores::detail::PENDING_EVENTS",
        Index("callback_outbox_by_organization"),
    ),
    ("holds::PUT_OFF", Index("sync_jobs_due")),
    ("holds::MARKED", Index("sync_jobs_held")),
    ("stores::removal::NEXT", Index("stores_removed")),
    ("queues::SYNC", IndexOnly("sync_jobs_due")),
    ("queues::EVENTS", IndexOnly("callback_outbox_due")),
    ("queues::DELIVERIES", IndexOnly("callback_deliveries_due")),
];

pub(crate) async fn explain(url: &str, statement: &str) -> Result<String> {
    explain_after(url, "select 1", statement).await
}

async fn explain_after(url: &str, before: &str, statement: &str) -> Result<String> {
    let lines: Vec<String> = if let Some(path) = url.strip_prefix("sqlite:") {
        let mut conn = SqliteConnection::connect(path).await?;
        let rows = sqlx::query(AssertSqlSafe(format!("explain query plan {statement}")))
            .fetch_all(&mut conn)
            .await?;
        rows.iter().map(|row| row.get("detail")).collect()
    } else {
        let mut conn = PgConnection::connect(url).await?;
        sqlx::raw_sql(AssertSqlSafe(before))
            .execute(&mut conn)
            .await?;
        // `raw_sql`: what was prepared by SQL cannot be prepared once more.
        let explain = sqlx::raw_sql(AssertSqlSafe(format!("explain {statement}")));
        let rows = explain.fetch_all(&mut conn).await?;
        rows.iter().map(|row| row.get(0)).collect()
    };
    Ok(lines.join("\n"))
}

fn reads(plan: &str, reads: Reads, backend: Backend) -> bool {
    if reads == Index(STORES_BY_ID) {
        let index = match backend {
            Backend::Postgres => "Index Scan Backward using stores_pkey",
            Backend::Embedded => "USING INDEX sqlite_autoindex_stores_1",
        };
        return plan.contains(index);
    }
    let says = |words: &[&str]| {
        plan.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    match (reads, backend) {
        (Index(index), Backend::Embedded) if index == RECEIPTS[0] => {
            says(&["USING", "INDEX", RECEIPTS[1]])
        }
        (Index(index), Backend::Postgres) => {
            says(&["Scan", &format!(" using {index} ")]) || says(&["Bitmap Index Scan", index])
        }
        (IndexOnly(index), Backend::Postgres) => {
            says(&["Index Only Scan", &format!(" using {index} ")])
        }
        // SQLite does not say of every partial index that it covers a query.
        (Index(index) | IndexOnly(index), Backend::Embedded) => says(&["USING", "INDEX", index]),
    }
}

async fn due_work_is_found_by_partial_indexes(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    fill_tables(&ledger, backend).await?;
    for (name, expected) in PLANS.iter().chain(operator_plans::PLANS) {
        let found = statements().find(|(full, _)| full.ends_with(name));
        let (_, sql) = found.with_context(|| format!("{name} is no statement"))?;
        let statement = with_values(name, sql, backend)?;
        let plan = explain(ledger.url(), &statement)
            .await
            .with_context(|| statement.clone())?;
        println!("{name}\n{plan}\n");
        ensure!(
            reads(&plan, *expected, backend),
            "{name}: {statement}\n{plan}"
        );
        // It stops where a page is full, instead of reading all that may be on it first.
        let is_sorted = name.starts_with("logs::list::") && plan.contains("Sort");
        ensure!(!is_sorted, "{name} sorts: {statement}\n{plan}");
        let walks_all = [
            "stores",
            "sync_logs",
            "callback_outbox",
            "callback_deliveries",
        ]
        .iter()
        .any(|table| {
            plan.contains(&format!("Seq Scan on {table}"))
                || plan.lines().any(|line| line == format!("SCAN {table}"))
        });
        ensure!(
            !walks_all,
            "{name} walks over a whole table: {statement}\n{plan}"
        );
    }
    Ok(())
}

const TABLES: [&str; 5] = [
    "stores",
    "sync_jobs",
    "callback_outbox",
    "callback_deliveries",
    "webhook_endpoints",
];

/// The statements that read a set of rows, given or picked, each as PostgreSQL plans it once for every set.
async fn plans_of_sets(ledger: &Fixture, backend: Backend) -> Result<Vec<(&'static str, String)>> {
    let mut plans = Vec::new();
    let reads_a_set = |sql: &Sql| {
        ["json_each($1)", "from picked"]
            .iter()
            .any(|set| sql.sqlite.contains(set))
    };
    // After a step of the clock all rows of a kind are looked at, once.
    let usual = statements().filter(|(name, _)| !name.contains("::rebase::"));
    for (name, sql) in usual.filter(|(_, sql)| reads_a_set(sql)) {
        let plan = match backend {
            Backend::Embedded => explain(ledger.url(), sql.sqlite).await?,
            Backend::Postgres => {
                let parameters = (1..9).filter(|n| sql.postgres.contains(&format!("${n}")));
                let nulls = vec!["null"; parameters.count()].join(", ");
                let prepare = format!(
                    "set plan_cache_mode = force_generic_plan; prepare one as {}",
                    sql.postgres
                );
                explain_after(ledger.url(), &prepare, &format!("execute one({nulls})")).await?
            }
        };
        plans.push((name, plan));
    }
    Ok(plans)
}

/// Whether anything is known of the tables or not.
async fn sets_of_rows_are_looked_up_by_key(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    for statement in settled_work(backend, MIDDLING, MIDDLING) {
        ledger.sql.execute(&statement).await?;
    }
    for analysed in [false, true] {
        if analysed {
            for table in TABLES {
                ledger.sql.execute(&format!("analyze {table}")).await?;
            }
        }
        for (name, plan) in plans_of_sets(&ledger, backend).await? {
            println!("{name}\n{plan}\n");
            let walks_all = TABLES.iter().any(|table| {
                plan.lines().any(|line| {
                    line.contains(&format!("Seq Scan on {table}"))
                        || line == format!("SCAN {table}")
                })
            });
            ensure!(!walks_all, "{name} walks over a whole table:\n{plan}");
            // Looked up once a page, and not once for each endpoint on it.
            let pages_first = plan.contains("CTE p") || plan.contains("MATERIALIZE p");
            ensure!(!name.ends_with("LISTENING") || pages_first, "{plan}");
        }
    }
    Ok(())
}

on_every_backend!(
    due_work_is_found_by_partial_indexes,
    sets_of_rows_are_looked_up_by_key,
);
