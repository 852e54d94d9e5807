//! Known work, and the exact figures that it must leave; docs/observability.md lists the same metrics.

use std::{collections::BTreeMap, fs};

use anyhow::{Result, ensure};
use serde_json::json;
use wharf_tests::{
    Answer, Backend, Host, Receiver, Scrape, Shop, Site, on_every_backend, repository,
};

use super::{endpoint, start, until};

/// All series of a metric with one label, by its value; those that are 0 left out.
fn by(scrape: &Scrape, name: &str, label: &str) -> BTreeMap<String, f64> {
    let series = scrape
        .series_of(name)
        .into_iter()
        .filter(|(_, value)| *value != 0.0);
    series
        .map(|(labels, value)| (labels[label].clone(), value))
        .collect()
}

fn counts<const N: usize>(expected: [(&str, f64); N]) -> BTreeMap<String, f64> {
    expected
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Imports of every outcome, one sync run, and deliveries that end in every way.
async fn work(host: &Host) -> Result<Vec<Receiver>> {
    let mut receivers = Vec::new();
    for status in [200, 500, 410] {
        let receiver = Receiver::start().await?;
        receiver.answer_status(status);
        endpoint(host, "org-1", receiver.url()).await?;
        receivers.push(receiver);
    }
    endpoint(host, "org-1", "http://127.0.0.1:1/nobody-listens").await?;
    let shop = Shop::open(host, "org-1", "etsy").await?;
    for receipt in ["order-101", "order-101", "order-102", "order-106"] {
        shop.import(host, receipt).await?;
    }
    let unknown =
        json!({"syncToken": "00000000-0000-4000-8000-000000000000", "receipt": "order-101"});
    ensure!(
        host.post("/orders/import", &unknown).await?.status == 404,
        "no such store"
    );
    shop.request_sync(host).await?;
    Ok(receivers)
}

async fn counts_are_exact(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = start(&site, &[("WEBHOOK_RETRY", "200ms")]).await?;
    let _receivers = work(&host).await?;
    ensure!(
        host.get("/no/such/path?token=secret").await?.status == 404,
        "no route"
    );
    ensure!(
        Answer::to(host.request("BREW", "/stores/register"))
            .await?
            .status
            == 405,
        "no method"
    );
    until(
        host.base_url(),
        "wharf_deliveries_total",
        &[("outcome", "dead")],
        3.0,
    )
    .await?;
    until(
        host.base_url(),
        "wharf_sync_jobs_total",
        &[("outcome", "finished")],
        1.0,
    )
    .await?;
    // Two events of the run, and the operator's: the endpoint that is gone was disabled.
    let scrape = until(
        host.base_url(),
        "wharf_events_total",
        &[("outcome", "fanned_out")],
        3.0,
    )
    .await?;

    let imports = [
        ("imported", 1.0),
        ("invalid_receipt", 1.0),
        ("rate_limited", 1.0),
        ("repeated", 1.0),
        ("store_not_found", 1.0),
    ];
    assert_eq!(
        by(&scrape, "wharf_imports_total", "outcome"),
        counts(imports)
    );
    assert_eq!(
        scrape.value("wharf_import_duration_seconds_count", &[]),
        3.0
    );
    assert_eq!(
        by(&scrape, "wharf_sync_runs_total", "outcome"),
        counts([("completed", 1.0)])
    );
    assert_eq!(
        by(&scrape, "wharf_sync_receipts_total", "outcome"),
        counts([("failed", 1.0)])
    );
    assert_eq!(
        by(&scrape, "wharf_sync_jobs_total", "outcome"),
        counts([("finished", 1.0)])
    );
    let call = |plugin| {
        scrape.value(
            "wharf_plugin_calls_total",
            &[("plugin", plugin), ("outcome", "answered")],
        )
    };
    assert_eq!(
        (call("etsy"), call("standard-payload")),
        (4.0, 1.0),
        "three imports and a sync; one event"
    );
    assert_eq!(
        scrape.value(
            "wharf_plugin_call_duration_seconds_count",
            &[("plugin", "etsy")]
        ),
        4.0
    );
    assert_eq!(
        by(&scrape, "wharf_events_total", "outcome"),
        counts([("fanned_out", 3.0)])
    );
    let became = [("delivered", 1.0), ("retry", 2.0), ("dead", 3.0)];
    assert_eq!(
        by(&scrape, "wharf_deliveries_total", "outcome"),
        counts(became)
    );
    let attempts = [
        ("accepted", 1.0),
        ("rejected", 2.0),
        ("gone", 1.0),
        ("no_answer", 2.0),
    ];
    assert_eq!(
        by(&scrape, "wharf_delivery_attempts_total", "outcome"),
        counts(attempts)
    );
    assert_eq!(
        scrape.value("wharf_delivery_attempt_duration_seconds_count", &[]),
        6.0
    );
    assert_eq!(scrape.value("wharf_delivery_retries_total", &[]), 2.0);
    assert_eq!(
        by(&scrape, "wharf_dead_letters_total", "reason"),
        counts([("exhausted", 2.0), ("gone", 1.0)])
    );

    let request = |route, method, status| {
        scrape.value(
            "wharf_http_requests_total",
            &[("route", route), ("method", method), ("status", status)],
        )
    };
    assert_eq!(request("/orders/import", "POST", "2xx"), 4.0);
    assert_eq!(request("/orders/import", "POST", "4xx"), 1.0);
    assert_eq!(request("/webhooks/register", "POST", "2xx"), 4.0);
    assert_eq!(request("/stores/register", "other", "4xx"), 1.0);
    assert_eq!(request("(none)", "GET", "4xx"), 1.0);
    assert_eq!(
        scrape.value(
            "wharf_http_request_duration_seconds_count",
            &[("route", "/orders/import")]
        ),
        5.0
    );

    assert_eq!(scrape.value("wharf_database_up", &[]), 1.0);
    for lane in ["sync", "fan_out", "deliveries"] {
        let at = &[("lane", lane)];
        until(host.base_url(), "wharf_queue_depth", at, 0.0).await?;
        assert_eq!(scrape.value("wharf_stale_writes_refused_total", at), 0.0);
    }
    let pools = by(&scrape, "wharf_database_connections_max", "pool");
    let expected = match backend {
        Backend::Embedded => counts([("writer", 1.0), ("readers", 16.0)]),
        Backend::Postgres => counts([("shared", 16.0)]),
    };
    assert_eq!(pools, expected);
    let open: f64 = scrape
        .series_of("wharf_database_connections")
        .iter()
        .map(|(_, number)| number)
        .sum();
    assert!((1.0..=17.0).contains(&open), "{open}");
    the_documentation_lists(&scrape)
}

/// docs/observability.md has a row for every metric: name, type, labels and the very help text; and none besides.
fn the_documentation_lists(scrape: &Scrape) -> Result<()> {
    let text = fs::read_to_string(repository().join("docs/observability.md"))?;
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `wharf_"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let mut listed = BTreeMap::new();
    for row in &rows {
        let [name, kind, labels, help] = row[..] else {
            anyhow::bail!("not four columns: {row:?}")
        };
        let labels: Vec<&str> = labels
            .split(", ")
            .map(|label| label.trim_matches('`'))
            .collect();
        listed.insert(name.trim_matches('`'), (kind, labels, help));
    }
    let names: Vec<&str> = scrape.families.keys().map(String::as_str).collect();
    assert_eq!(listed.keys().copied().collect::<Vec<_>>(), names);
    for (name, family) in &scrape.families {
        let (kind, labels, help) = &listed[name.as_str()];
        assert_eq!(
            (*kind, *help),
            (family.kind.as_str(), family.help.as_str()),
            "{name}"
        );
        let sample = if family.kind == "histogram" {
            format!("{name}_count")
        } else {
            name.clone()
        };
        for (its, _) in scrape.series_of(&sample) {
            let its: Vec<&str> = its.keys().map(String::as_str).collect();
            let mut expected = labels.clone();
            expected.retain(|label| !label.is_empty());
            expected.sort_unstable();
            assert_eq!(its, expected, "{name}");
        }
    }
    Ok(())
}

on_every_backend!(counts_are_exact);
