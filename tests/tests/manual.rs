//! The seed document's manual steps and its demo flow, followed literally with Wharf's commands, each role a process of
//! its own. On PostgreSQL and Redis, as the document has it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wharf_tests::{
    Backend, Host, HostBuilder, Ledger, LogLine, PATIENCE, Receiver, Shop, Site, eventually,
    on_every_backend,
};

/// Waits for a log line with this message and these values.
async fn logged(host: &Host, message: &str, fields: &Value) -> Result<LogLine> {
    let matches = |line: &LogLine| {
        let fields = fields.as_object().expect("an object");
        line.message() == message && fields.iter().all(|(name, value)| line.field(name) == value)
    };
    let found = || async { host.log().into_iter().find(matches) };
    eventually(&format!("{message} with {fields}"), PATIENCE, found).await
}

/// Runs a command to its end; what it printed.
async fn run(builder: HostBuilder) -> Result<String> {
    let (status, printed) = builder.run().await?;
    anyhow::ensure!(status.success(), "{status}: {printed}");
    Ok(printed)
}

#[test]
fn task_four() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        run(site.host().command(&["migrate"])).await?;
        let api = site.host().role("api").start().await?;
        // 1. Register a store.
        let store = json!({"organizationId": "org1", "marketplace": "etsy", "externalStoreId": "ext1", "storeName": "Store",
            "accessToken": "tok", "currency": "USD"});
        let shop = Shop::register(&api, &store).await?;
        // 2. Create a rate-limited log.
        let limited = shop.import(&api, "RL15").await?;
        assert_eq!(limited, json!({"success": false, "error": "rate_limited"}));
        // 3. Set the time of its next retry in the past.
        let ledger = Ledger::open(&site).await?;
        let past = "update sync_logs set next_retry_at = now() - interval '1 minute' where receipt = 'RL15'";
        assert_eq!(ledger.execute(past).await?, 1);
        // 4. Run the scheduler.
        let printed = run(site.host().command(&["scheduler", "sync"])).await?;
        let pass: Value = printed
            .lines()
            .find(|line| line.contains("scheduler_run"))
            .map(serde_json::from_str)
            .context("a line")??;
        assert_eq!(
            (&pass["scannedStores"], &pass["enqueuedJobs"]),
            (&json!(1), &json!(1))
        );
        // 5. Run the worker.
        let mut worker = site.host().command(&["worker", "sync"]).start().await?;
        let counts = json!({"storeId": shop.store_id, "processedCount": 1, "successCount": 0, "failedCount": 0, "rateLimitedCount": 1});
        logged(&worker, "sync_store_batch", &counts).await?;
        logged(&worker, "job_completed", &counts).await?;
        assert_eq!(worker.stop().await?.code(), Some(0));
        let log = "select status, attempt, extract(epoch from next_retry_at - now())::int / 60 as minutes from sync_logs";
        let log = ledger.row(log).await?;
        assert_eq!(
            (&log["status"], &log["attempt"]),
            (&json!("rate_limited"), &json!(2))
        );
        assert!(
            [9, 10].iter().any(|minutes| log["minutes"] == *minutes),
            "{log}"
        );
        // 6. Verify by the status.
        let status = shop.status(&api).await?;
        assert!(status["lastSyncAt"].is_string(), "{status}");
        assert_eq!(
            (&status["rateLimitedCount"], &status["importedOrders"]),
            (&json!(1), &json!(0))
        );
        Ok(())
    })
}

#[test]
fn task_five() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        // 1 to 5. Infrastructure, API, callback worker, its scheduler, the mock receiver.
        run(site.host().command(&["migrate"])).await?;
        let api = site.host().role("api").start().await?;
        let worker = site.host().command(&["worker", "callback"]).start().await?;
        let mut scheduler = site
            .host()
            .command(&["scheduler", "callback", "--loop"])
            .start()
            .await?;
        let mut mock = site
            .host()
            .command(&["mock-webhook", "--port", "0"])
            .start()
            .await?;
        let url = format!("{}/webhook", mock.base_url());
        // 6. Register a webhook.
        let hook =
            json!({"organizationId": "org-manual", "event": "sync.completed", "targetUrl": url});
        let answer = api.post("/webhooks/register", &hook).await?;
        assert_eq!((answer.status, answer.get("isActive")), (200, json!(true)));
        // 7. Trigger a sync.
        let shop = Shop::open(&api, "org-manual", "etsy").await?;
        assert_eq!(shop.import(&api, "order-101").await?["success"], true);
        assert_eq!(shop.import(&api, "order-102").await?["success"], false);
        run(site.host().command(&["scheduler", "sync", "--once"])).await?;
        let sync = site.host().command(&["worker", "sync"]).start().await?;
        // 8. Verify: the row, the worker's log, the receiver's log.
        let received = logged(&mock, "webhook_received", &json!({"status": 200})).await?;
        let body = received.field("body").as_object().context("a body")?;
        let mut names: Vec<_> = body.keys().collect();
        // Whether serde_json keeps the order depends on what else is built.
        names.sort();
        assert_eq!(
            names,
            [
                "data",
                "event",
                "eventId",
                "organizationId",
                "storeId",
                "timestamp"
            ]
        );
        let event = &received.field("body")["eventId"];
        logged(
            &sync,
            "job_completed",
            &json!({"storeId": shop.store_id, "processedCount": 1}),
        )
        .await?;
        let delivery = json!({"event": "sync.completed", "outboxId": event, "organizationId": "org-manual",
            "storeId": shop.store_id, "attempt": 1, "endpointCount": 1, "successCount": 1, "failCount": 0});
        logged(&worker, "callback_delivery", &delivery).await?;
        worker.logged_message("callback_job_completed").await?;
        let ledger = Ledger::open(&site).await?;
        ledger.wait_for("select id from callback_outbox where event = 'sync.completed' and status = 'success'").await?;
        // The 500 case: a payload whose receipt ends in 5.
        let failing = ledger
            .put_event("org-manual", "sync.completed", r#"{"receipt":"RL15"}"#)
            .await?;
        for attempt in 1..=3 {
            let expected = json!({"outboxId": failing, "attempt": attempt, "successCount": 0, "failCount": 1, "status": 500});
            let line = logged(&worker, "callback_delivery", &expected).await?;
            assert_eq!(line.field("nextRetryAt").is_null(), attempt == 3);
            let (status, due) = if attempt < 3 {
                ("pending", "is not null")
            } else {
                ("failed", "is null")
            };
            ledger
                .wait_for(&format!(
                    "select attempt from callback_outbox where id = '{failing}' and attempt = {attempt}
                and status = '{status}' and next_retry_at {due}"
                ))
                .await?;
            ledger
                .execute("update callback_deliveries set due_at = now() where state = 'pending'")
                .await?;
        }
        for host in [&mut scheduler, &mut mock] {
            assert_eq!(host.stop().await?.code(), Some(0));
        }
        Ok(())
    })
}

#[test]
fn the_mock_receiver_fails_when_asked() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Embedded).await?;
        let mock = site
            .host()
            .command(&["mock-webhook", "--port", "0"])
            .start()
            .await?;
        for (fail, body, status) in [
            ("", json!({"event": "a"}), 200),
            ("false", json!({"event": "b"}), 200),
            ("true", json!({"event": "c"}), 500),
            ("", json!({"receipt": "RL15"}), 500),
            ("", json!({"data": {"receipt": "5"}}), 500),
            ("", json!({"receipt": "51"}), 200),
            ("", json!({"data": {"other": "5"}}), 200),
        ] {
            let request = mock
                .request("POST", "/webhook")
                .header("x-fail", fail)
                .json(&body);
            assert_eq!(request.send().await?.status(), status, "{body}");
            logged(
                &mock,
                "webhook_received",
                &json!({"status": status, "body": body}),
            )
            .await?;
        }
        Ok(())
    })
}

/// `wharf flow` with the seed's variables, against all roles in one process or each in its own.
async fn the_demo_flow_runs(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let receiver = Receiver::start().await?;
    let mut others = Vec::new();
    let api = if backend == Backend::Embedded {
        site.host().start().await?
    } else {
        let api = site.host().role("api").start().await?;
        for words in [
            &["worker", "sync"][..],
            &["worker", "callback"],
            &["scheduler", "sync", "--loop"],
            &["scheduler", "callback", "--loop"],
            &[
                "serve",
                "--role",
                "sync-worker",
                "--role",
                "callback-worker",
            ],
        ] {
            others.push(site.host().command(words).start().await?);
        }
        api
    };
    let flow = site
        .host()
        .command(&["flow", "--json"])
        .env("BASE_URL", api.base_url());
    let flow = flow
        .env("ORG_ID", "org-flow")
        .env("MARKETPLACE", "shopify")
        .env("EXTERNAL_STORE_ID", "ext-7");
    let flow = flow
        .env("STORE_NAME", "My Flow Store")
        .env("ACCESS_TOKEN", "token-v2")
        .env("CURRENCY", "EUR");
    let flow = flow
        .env("WEBHOOK_URL", receiver.url())
        .env("RECEIPTS", "order-101, order-102,order-115");
    let printed = run(flow).await?;
    let printed: Value = serde_json::from_str(&printed).context(printed)?;
    assert_eq!(printed["ok"], true, "{printed}");
    let steps = printed["steps"].as_array().context("steps")?;
    let paths: Vec<_> = steps
        .iter()
        .map(|step| step["path"].as_str().unwrap_or_default())
        .collect();
    let token = steps[0]["answer"]["syncToken"]
        .as_str()
        .context("a token")?;
    let status = format!("/stores/sync-status?syncToken={token}");
    let list = "/webhooks?organizationId=org-flow";
    let expected = [
        "/stores/register",
        "/orders/import",
        "/orders/import",
        "/orders/import",
        &status,
        "/webhooks/register",
        "/webhooks/register",
        "/webhooks/register",
        list,
    ];
    assert_eq!(paths, expected);
    assert!(steps.iter().all(|step| step["status"] == 200), "{printed}");
    assert_eq!(
        (
            &steps[1]["answer"]["success"],
            &steps[1]["answer"]["currency"]
        ),
        (&json!(true), &json!("EUR"))
    );
    assert_eq!(
        (&steps[2]["answer"]["error"], &steps[3]["answer"]["error"]),
        (&json!("invalid_receipt"), &json!("rate_limited"))
    );
    assert_eq!(steps[4]["answer"]["syncStatus"], "partial");
    assert_eq!(steps[8]["answer"].as_array().map(Vec::len), Some(3));

    let shop = Shop {
        store_id: steps[0]["answer"]["storeId"]
            .as_str()
            .context("an id")?
            .into(),
        sync_token: token.into(),
    };
    shop.request_sync(&api).await?;
    for event in ["sync.started", "sync.completed"] {
        assert_eq!(
            receiver.wait_for_event(event).await?.json()["storeId"],
            shop.store_id
        );
    }
    assert_eq!(
        receiver.requests().len(),
        2,
        "each once, however many workers there are"
    );
    for mut other in others {
        assert_eq!(other.stop().await?.code(), Some(0));
    }
    Ok(())
}

on_every_backend!(the_demo_flow_runs);
