//! Bad, missing and late plugins: no order is lost, and nobody else is served worse.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use wharf_tests::{
    Answer, Backend, Host, Ledger, LogLine, PATIENCE, Receiver, Shop, Site, built_plugin,
    eventually, guest, on_every_backend,
};

const UNAVAILABLE: &str = r#"{"success":false,"error":"marketplace_unavailable"}"#;

fn unavailable() -> Value {
    serde_json::from_str(UNAVAILABLE).expect("JSON")
}

/// The log of a receipt, with the seconds until it is tried again.
async fn log_of(ledger: &Ledger, receipt: &str) -> Result<Value> {
    let wait = ledger.seconds_between("updated_at", "next_retry_at");
    ledger
        .row(&format!(
            "select status, attempt, {wait} as wait from sync_logs where receipt = '{receipt}'"
        ))
        .await
}

/// Waits until an adapter serves this marketplace: without credentials the mock route tells the two apart.
async fn served(host: &Host, marketplace: &str) -> Result<()> {
    let path = format!("/mock/{marketplace}/validate");
    let served = || async {
        host.post(&path, &json!({}))
            .await
            .ok()
            // 503: it may be one of those that are being loaded.
            .filter(|answer| ![400, 503].contains(&answer.status))
            .map(drop)
    };
    eventually(&format!("{marketplace} is served"), PATIENCE, served).await
}

async fn a_hostile_plugin_fails_alone(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    site.install_plugin("hostile", &guest("hostile-adapter"))?;
    let host = site
        .host()
        .env("MOCK_HOSTILE_USER", "u")
        .env("MOCK_HOSTILE_PASS", "p")
        .start()
        .await?;
    let (hostile, etsy) = (
        Shop::open(&host, "org-1", "hostile").await?,
        Shop::open(&host, "org-1", "etsy").await?,
    );
    let ledger = Ledger::open(&site).await?;
    let misdeeds = [
        "trap",
        "panic",
        "exit",
        "spin",
        "recurse",
        "alloc",
        "giant-output",
        "long-id",
        "nul-id",
        "broken-text",
        "id:",
        "amount:-1.00",
        "amount:NaN",
        "currency:usd",
        "time:yesterday",
        "fault:unavailable",
        "fault:misconfigured",
    ];
    for (number, receipt) in misdeeds.into_iter().enumerate() {
        assert_eq!(
            hostile.import(&host, receipt).await?,
            unavailable(),
            "{receipt}"
        );
        let log = log_of(&ledger, receipt).await?;
        assert_eq!(
            (&log["status"], &log["attempt"]),
            (&json!("pending"), &json!(1)),
            "{receipt}"
        );
        let wait = log["wait"].as_f64().unwrap_or_default();
        assert!(
            (270.0..=300.0).contains(&wait),
            "{receipt} is tried again in {wait} s"
        );
        assert_eq!(
            etsy.import(&host, &format!("order-{number}-a1")).await?["success"],
            true,
            "after {receipt}"
        );
        // Twice, so that the plugin is not taken for one that always fails.
        for call in 0..2 {
            assert_eq!(
                hostile
                    .import(&host, &format!("fine {number}-{call}"))
                    .await?["success"],
                true
            );
        }
    }
    limits_are_the_adapters_own(&host, &hostile, &ledger).await?;
    for receipt in misdeeds {
        assert_eq!(
            hostile.import(&host, receipt).await?,
            unavailable(),
            "{receipt}, again"
        );
    }
    let asked = ledger
        .row("select max(attempt) as most, count(*) as n from sync_logs where status = 'pending'")
        .await?;
    assert_eq!(
        asked,
        json!({"most": 1, "n": misdeeds.len()}),
        "asked once, kept every one"
    );
    let status = hostile.status(&host).await?;
    assert_eq!(
        (&status["importedOrders"], &status["rateLimitedCount"]),
        (&json!(2 * misdeeds.len()), &json!(2))
    );

    // Five in a row: it is put aside, and what comes now is deferred without burning an attempt.
    for n in 2..7 {
        assert_eq!(
            hostile.import(&host, &format!("amount:-{n}.00")).await?,
            unavailable()
        );
    }
    let deferred = || async {
        let receipt = format!("deferred-{}", fastrand::u32(..));
        let answer = hostile.import(&host, &receipt).await.ok()?;
        let log = log_of(&ledger, &receipt).await.ok()?;
        (answer == unavailable() && log["attempt"] == 0 && log["status"] == "pending")
            .then_some(log)
    };
    let log = eventually("the plugin is put aside", PATIENCE, deferred).await?;
    assert!(
        (0.0..=30.0).contains(&log["wait"].as_f64().unwrap_or_default()),
        "{log}"
    );
    assert_eq!(etsy.import(&host, "order-z1").await?["success"], true);
    Ok(())
}

/// The longer of the adapter's own wait and the first backoff counts; the mock route tells what the adapter said.
async fn limits_are_the_adapters_own(host: &Host, shop: &Shop, ledger: &Ledger) -> Result<()> {
    for (receipt, seconds) in [("fault:7", 300.0), ("fault:4000", 4_000.0)] {
        assert_eq!(shop.import(host, receipt).await?["error"], "rate_limited");
        let log = log_of(ledger, receipt).await?;
        assert_eq!(
            (&log["status"], &log["attempt"]),
            (&json!("rate_limited"), &json!(1))
        );
        assert!(
            (seconds - 30.0..=seconds).contains(&log["wait"].as_f64().unwrap_or_default()),
            "{log}"
        );
    }
    let ask = |receipt: &str| {
        let request = host
            .request("POST", "/mock/hostile/validate")
            .basic_auth("u", Some("p"));
        Answer::to(request.json(&json!({"receipt": receipt})))
    };
    for (receipt, status, error, retry_after) in [
        ("fault:4000", 429, "rate_limited", "4000"),
        ("fault:unavailable", 503, "marketplace_unavailable", "1"),
    ] {
        let answer = ask(receipt).await?;
        assert_eq!(
            (answer.status, answer.json()),
            (status, json!({"error": error}))
        );
        assert_eq!(answer.header("retry-after"), retry_after);
    }
    Ok(())
}

/// Some process serves it, or has served it; this one does not yet.
async fn a_marketplace_may_get_its_adapter_later(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let ledger = Ledger::open(host.site()).await?;
    let registration = Shop::registration("org-1", "hostile");
    let refused = host.post("/stores/register", &registration).await?;
    assert_eq!(refused.status, 400, "{}", refused.text);
    ledger.served_elsewhere("hostile").await?;
    let shop = Shop::register(&host, &registration).await?;
    let receiver = Receiver::start().await?;
    let hook =
        json!({"organizationId": "org-1", "event": "sync.completed", "targetUrl": receiver.url()});
    assert_eq!(host.post("/webhooks/register", &hook).await?.status, 200);
    for _ in 0..2 {
        assert_eq!(shop.import(&host, "early bird").await?, unavailable());
    }
    let log = log_of(&ledger, "early bird").await?;
    assert_eq!(
        (&log["status"], &log["attempt"]),
        (&json!("pending"), &json!(0)),
        "nobody was asked"
    );
    let expected = json!({"lastSyncAt": null, "importedOrders": 0, "syncStatus": "partial", "rateLimitedCount": 0});
    assert_eq!(shop.status(&host).await?, expected);

    host.site()
        .install_plugin("hostile", &guest("hostile-adapter"))?;
    served(&host, "hostile").await?;
    assert_eq!(
        shop.import(&host, "early bird").await?,
        unavailable(),
        "what is stored is answered"
    );
    ledger
        .execute(&format!(
            "update sync_logs set next_retry_at = {}",
            ledger.time(-1)
        ))
        .await?;
    shop.request_sync(&host).await?;
    let completed = receiver.wait_for_event("sync.completed").await?.json();
    assert_eq!(
        (
            &completed["data"]["processedCount"],
            &completed["data"]["successCount"]
        ),
        (&json!(1), &json!(1))
    );
    let order = shop.import(&host, "early bird").await?;
    assert_eq!(
        (&order["success"], &order["amount"]),
        (&json!(true), &json!(12.50))
    );
    let status = shop.status(&host).await?;
    assert_eq!(
        (&status["importedOrders"], &status["syncStatus"]),
        (&json!(1), &json!("success"))
    );
    Ok(())
}

async fn a_missing_folder_is_said_and_served_when_it_comes(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    fs::remove_dir_all(site.plugins_dir())?;
    let host = site.host().start().await?;
    host.logged_message("the plugins folder was missing and was made")
        .await?;
    assert_eq!(host.get("/readyz").await?.status, 200);
    Ledger::open(&site).await?.served_elsewhere("etsy").await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    assert_eq!(shop.import(&host, "order-101").await?, unavailable());
    assert_eq!(
        host.post("/mock/etsy/validate", &json!({}))
            .await?
            .get("error"),
        "Invalid marketplace"
    );
    site.install_plugin("etsy", &built_plugin("etsy"))?;
    served(&host, "etsy").await?;
    assert_eq!(shop.import(&host, "order-103").await?["success"], true);
    Ok(())
}

async fn corrupt_files_are_refused_one_by_one(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let good = fs::read(built_plugin("etsy"))?;
    let dir = site.plugins_dir();
    fs::write(dir.join("etsy.wasm"), b"no component at all")?;
    fs::write(dir.join("amazon.wasm"), &good[..good.len() / 2])?;
    fs::write(dir.join("empty.wasm"), b"")?;
    fs::write(dir.join("module.wasm"), b"\0asm\x01\0\0\0")?;
    fs::create_dir(dir.join("folder.wasm"))?;
    std::os::unix::fs::symlink("/etc/passwd", dir.join("link.wasm"))?;
    let host = site.host().start().await?;
    for plugin in ["etsy", "amazon", "empty", "module", "folder", "link"] {
        let said = |line: &LogLine| line.field("plugin") == plugin && line.field("level") == "WARN";
        let refused = || async { host.log().into_iter().find(said) };
        let line = eventually(&format!("{plugin} is refused"), PATIENCE, refused).await?;
        assert!(
            line.text.contains("refused at ") && line.text.contains("to fix it"),
            "{}",
            line.text
        );
        assert!(!line.text.contains("root:"), "no content of files");
    }
    let shop = Shop::open(&host, "org-1", "shopify").await?;
    assert_eq!(
        shop.import(&host, "order-101").await?["success"],
        true,
        "the good ones serve"
    );
    Ledger::open(&site).await?.served_elsewhere("etsy").await?;
    let etsy = Shop::open(&host, "org-1", "etsy").await?;
    assert_eq!(etsy.import(&host, "order-101").await?, unavailable());
    site.install_plugin("etsy", &built_plugin("etsy"))?;
    served(&host, "etsy").await?;
    assert_eq!(etsy.import(&host, "order-103").await?["success"], true);
    Ok(())
}

/// An endpoint that wants a shape that cannot be had waits for it alone.
async fn a_hostile_shaper_holds_up_its_own_endpoints_alone(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    site.install_plugin("hostile-shaper", &guest("hostile-shaper"))?;
    let host = site.host().start().await?;
    let (plain, shaped) = (Receiver::start().await?, Receiver::start().await?);
    let misdeeds = [
        "error:no",
        "trap",
        "spin",
        "giant-output",
        "header-injection",
    ];
    for organization in misdeeds {
        for (receiver, shaper) in [(&plain, "standard"), (&shaped, "hostile")] {
            let hook = json!({"organizationId": organization, "event": "sync.failed", "targetUrl": receiver.url(),
                "shaper": shaper});
            assert_eq!(
                host.post("/webhooks/register", &hook).await?.get("shaper"),
                shaper
            );
        }
    }
    let ledger = Ledger::open(&site).await?;
    for (number, organization) in misdeeds.into_iter().enumerate() {
        let id = ledger.put_event(organization, "sync.failed", "{}").await?;
        assert_eq!(
            plain.wait_for(number + 1).await?[number].header("x-event-id"),
            id,
            "{organization}"
        );
        // What the shaper refuses is over; what it cannot do now is tried again.
        let status = if organization == "error:no" {
            "failed"
        } else {
            "pending"
        };
        let stands = format!(
            "select o.id from callback_outbox o join callback_deliveries d on d.outbox_id = o.id
             where o.id = {} and o.status = '{status}' and o.last_error is not null and d.state = 'success'",
            ledger.id(&id)
        );
        ledger.wait_for(&stands).await?;
    }
    assert!(
        shaped.requests().is_empty(),
        "nothing was sent that was not shaped"
    );
    Ok(())
}

/// A plugin that logs without end fills no disk: what one call logs has its limit, and what is over it is counted.
async fn floods_of_a_plugins_log_are_cut(backend: Backend) -> Result<()> {
    const LIMIT: usize = 64 * 1024;
    let site = Site::open(backend).await?;
    site.install_plugin("hostile", &guest("hostile-adapter"))?;
    let host = site.host().env("LOG_LEVEL", "debug").start().await?;
    let shop = Shop::open(&host, "org-1", "hostile").await?;
    let of_plugin = || {
        host.log()
            .into_iter()
            .filter(|line| line.json["target"] == "plugin")
            .collect::<Vec<_>>()
    };
    let mut seen = of_plugin().len();
    for receipt in ["log-flood", "log-giant", "output-flood"] {
        shop.import(&host, receipt).await?;
        let dropped = |line: &LogLine| line.message() == "log over the limit dropped";
        let told = || async { Some(of_plugin()).filter(|lines| lines[seen..].iter().any(dropped)) };
        let lines = eventually(
            &format!("{receipt}: what was dropped is told"),
            PATIENCE,
            told,
        )
        .await?;
        let logged: usize = lines[seen..]
            .iter()
            .filter(|line| !dropped(line))
            .map(|line| line.message().len())
            .sum();
        assert!(logged <= LIMIT, "{receipt}: {logged} bytes were logged");
        seen = lines.len();
    }
    assert_eq!(shop.import(&host, "fine").await?["success"], true);
    Ok(())
}

on_every_backend!(
    floods_of_a_plugins_log_are_cut,
    a_hostile_plugin_fails_alone,
    a_marketplace_may_get_its_adapter_later,
    a_missing_folder_is_said_and_served_when_it_comes,
    corrupt_files_are_refused_one_by_one,
    a_hostile_shaper_holds_up_its_own_endpoints_alone,
);
