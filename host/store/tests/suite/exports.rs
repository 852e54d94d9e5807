//! Exports: all of an organization, page by page.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};
use wharf_store::export::{self, Export};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    fixture::{Fixture, NOW, organization_id},
    moving::fill,
};

/// All lines of an export.
async fn exported(ledger: &Fixture, organization: Option<&str>) -> Result<Vec<Value>> {
    let mut export = Export::new(ledger, organization.map(organization_id));
    let mut all = Vec::new();
    while let Some(lines) = export.next(ledger).await? {
        for line in lines.lines {
            ensure!(!line.contains('\n'), "{line:?}");
            all.push(serde_json::from_str(&line).with_context(|| line.clone())?);
        }
    }
    Ok(all)
}

fn counted(lines: &[Value]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts
            .entry(line["type"].as_str().unwrap_or_default())
            .or_default() += 1;
    }
    counts
}

async fn an_export_has_all_of_an_organization_and_nothing_else(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    fill(&ledger, backend).await?;
    let ours = exported(&ledger, Some("org")).await?;
    let counts = [
        ("attempt", 400),
        ("delivery", 200),
        ("event", 200),
        ("receipt", 151),
        ("store", 1),
        ("webhook", 1),
    ];
    assert_eq!(counted(&ours), BTreeMap::from(counts));
    let all = exported(&ledger, None).await?;
    let counts = [
        ("attempt", 600),
        ("delivery", 300),
        ("event", 300),
        ("receipt", 302),
        ("store", 2),
        ("webhook", 2),
    ];
    assert_eq!(counted(&all), BTreeMap::from(counts));
    assert_eq!(
        exported(&ledger, Some("nobody")).await?,
        Vec::<Value>::new()
    );
    for line in &ours {
        assert!(
            line["organizationId"].as_str().is_none_or(|of| of == "org"),
            "{line}"
        );
        let text = line.to_string();
        assert!(
            !text.contains("oken\"") && !text.contains("ecret"),
            "{text}"
        );
    }
    let first = |kind: &str| {
        ours.iter()
            .find(|line| line["type"] == kind)
            .context("a line")
    };
    let store = first("store")?;
    assert_eq!(store["externalStoreId"], "ext \u{fffd}\"'\\ ü 漢");
    assert_eq!(store["importedOrders"], 150);
    let receipt = ours
        .iter()
        .find(|line| line["receipt"] == "order-3")
        .context("a receipt")?;
    assert_eq!(
        (&receipt["amount"], &receipt["exhausted"]),
        (&"99.90".into(), &false.into())
    );
    assert_eq!(
        (&receipt["storeId"], &receipt["createdAt"]),
        (&store["id"], &NOW.to_string().into())
    );
    assert_eq!(
        first("event")?["payload"],
        serde_json::json!({"b": 1.10, "a": "ü"})
    );
    let attempt = first("attempt")?;
    assert_eq!(
        (&attempt["latencyMs"], &attempt["response"]),
        (&1.5.into(), &"line one\nline two".into())
    );
    assert_eq!(attempt["deliveryId"], first("delivery")?["id"]);
    Ok(())
}

async fn pages_of_an_export_are_found_by_indexes(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let kind = if backend == Backend::Postgres {
        wharf_store::Backend::Postgres
    } else {
        wharf_store::Backend::Sqlite
    };
    for (name, statement) in export::page_statements(kind) {
        let plan = match ledger.url().strip_prefix("sqlite:") {
            Some(path) => {
                let mut conn = SqliteConnection::connect(path).await?;
                let rows = sqlx::query(AssertSqlSafe(format!("explain query plan {statement}")));
                let rows = rows.fetch_all(&mut conn).await?;
                let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
                steps.join("\n")
            }
            None => {
                let mut conn = PgConnection::connect(ledger.url()).await?;
                // Of empty tables every plan is cheap: this one shows what there is without reading and sorting all.
                for off in [
                    "set enable_seqscan = off",
                    "set enable_sort = off",
                    "set enable_bitmapscan = off",
                ] {
                    sqlx::query(off).execute(&mut conn).await?;
                }
                // A value of any kind.
                let zeros = "'00000000000000000000000000000000'";
                let text = (1..10).rev().fold(statement.clone(), |text, number| {
                    text.replace(&format!("${number}"), zeros)
                });
                let rows = sqlx::raw_sql(AssertSqlSafe(format!("explain {text}")));
                let rows = rows.fetch_all(&mut conn).await?;
                let steps: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                steps.join("\n")
            }
        };
        let sorts = |line: &str| {
            line.contains("->  Sort ") || line.contains("USE TEMP B-TREE FOR ORDER BY")
        };
        let reads_all = |line: &str| {
            line.contains("Seq Scan") || (line.starts_with("SCAN") && !line.contains("INDEX"))
        };
        assert!(
            !plan.lines().any(|line| sorts(line) || reads_all(line)),
            "{name}: {statement}\n{plan}"
        );
    }
    Ok(())
}

on_every_backend!(
    an_export_has_all_of_an_organization_and_nothing_else,
    pages_of_an_export_are_found_by_indexes,
);
