//! Receipts in the hands of their store's owner and of the host's operator: found, read, and asked about again.

use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use wharf_tests::{
    ADMIN_TOKEN, Answer, Backend, Host, Ledger, PATIENCE, Shop, Site, eventually, on_every_backend,
    wharf_binary,
};

const ORG: &str = "organizationId=org-1";

/// A host with a store of `org-1` that has a success, a refusal and a rate limit.
async fn start(backend: Backend) -> Result<(Host, Ledger, Shop)> {
    let site = Site::open(backend).await?;
    let host = site.host().env("WHARF_ADMIN_TOKEN", ADMIN_TOKEN).start();
    let host = host.await?;
    let ledger = Ledger::open(host.site()).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    for receipt in ["order-101", "order-102", "order-115"] {
        shop.import(&host, receipt).await?;
    }
    Ok((host, ledger, shop))
}

async fn as_operator(host: &Host, method: &str, path: &str, body: Option<Value>) -> Result<Answer> {
    let request = host.request(method, path).bearer_auth(ADMIN_TOKEN);
    Answer::to(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

fn receipts(answer: &Answer) -> Vec<String> {
    let items = answer.get("items");
    let items = items.as_array().into_iter().flatten();
    let receipt = |item: &Value| item["receipt"].as_str().unwrap_or_default().to_owned();
    items.map(receipt).collect()
}

async fn receipts_are_listed_and_found(backend: Backend) -> Result<()> {
    let (host, _, shop) = start(backend).await?;
    let other = Shop::open(&host, "org-2", "amazon").await?;
    other.import(&host, "order-102").await?;
    let logs = format!("/stores/{}/logs?{ORG}", shop.store_id);
    let orders = host.get(&format!("{logs}&status=success")).await?;
    let order = orders.get("items")[0]["orderId"].clone();
    let order = order.as_str().context("an order")?.to_owned();
    for (query, expected) in [
        ("", vec!["order-115", "order-102", "order-101"]),
        ("&status=success", vec!["order-101"]),
        ("&status=rate_limited", vec!["order-115"]),
        ("&exhausted=true", vec![]),
        ("&error=rate_limited", vec!["order-115"]),
        ("&since=2999-01-01T00:00:00Z", vec![]),
        ("&receipt=order-102", vec!["order-102"]),
        ("&receipt=order-10", vec![]),
        (&format!("&orderId={order}"), vec!["order-101"]),
    ] {
        let answer = host.get(&format!("{logs}{query}")).await?;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        assert_eq!(receipts(&answer), expected, "{query}");
        assert_eq!(answer.get("nextCursor"), Value::Null, "{query}");
    }
    let mut all = Vec::new();
    let mut cursor = String::new();
    for _ in 0..3 {
        let page = host.get(&format!("{logs}&limit=1{cursor}")).await?;
        all.extend(receipts(&page));
        let next = page.get("nextCursor");
        cursor = format!("&cursor={}", next.as_str().unwrap_or("-"));
    }
    assert_eq!(all, ["order-115", "order-102", "order-101"]);
    let foreign = format!("/stores/{}/logs?organizationId=org-2", shop.store_id);
    let foreign = host.get(&foreign).await?;
    assert_eq!(
        (foreign.status, foreign.get("error")),
        (404, json!("Store not found"))
    );

    let unknown = host.get("/admin/logs").await?;
    assert_eq!(unknown.status, 401);
    for (query, expected) in [
        ("", vec!["order-102", "order-115", "order-102"]),
        ("?organizationId=org-2", vec!["order-102"]),
        ("?marketplace=etsy", vec!["order-115", "order-102"]),
        ("?status=success", vec![]),
        ("?receipt=order-102", vec!["order-102", "order-102"]),
        ("?receipt=order-102&marketplace=amazon", vec!["order-102"]),
        (&format!("?orderId={order}"), vec!["order-101"]),
        (
            &format!("?storeId={}&status=success", shop.store_id),
            vec!["order-101"],
        ),
    ] {
        let answer = as_operator(&host, "GET", &format!("/admin/logs{query}"), None).await?;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        assert_eq!(receipts(&answer), expected, "{query}");
    }
    let told = host.get(&logs).await?.text;
    for secret in ["token-abc", &shop.sync_token] {
        assert!(!told.contains(secret), "{told}");
    }
    Ok(())
}

/// Refused for the tenth time: told in the log and by a metric, redriven, and asked about once more.
async fn an_exhausted_receipt_is_told_of_and_mended(backend: Backend) -> Result<()> {
    let (host, ledger, shop) = start(backend).await?;
    let nine = format!(
        "update sync_logs set refusals = 9, next_retry_at = {} where receipt = 'order-102'",
        ledger.time(-60)
    );
    ledger.execute(&nine).await?;
    shop.request_sync(&host).await?;
    let rests = "select receipt from sync_logs where exhausted and receipt = 'order-102'";
    ledger.wait_for(rests).await?;
    let line = || async {
        let log = host.log();
        log.into_iter()
            .find(|line| line.message() == "receipt_exhausted")
    };
    let line = eventually("the line", PATIENCE, line).await?;
    for (field, value) in [
        ("storeId", json!(shop.store_id)),
        ("receipt", json!("order-102")),
        ("outcome", json!("refused")),
    ] {
        assert_eq!(line.field(field), &value, "{line:?}");
    }
    let scrape = host.scrape().await?;
    let labels = [("reason", "refused")];
    assert_eq!(scrape.value("wharf_receipts_exhausted_total", &labels), 1.0);

    let logs = format!("/stores/{}/logs", shop.store_id);
    let found = host.get(&format!("{logs}?{ORG}&exhausted=true")).await?;
    let log = found.get("items")[0].clone();
    let id = log["id"].as_str().context("an id")?;
    assert_eq!(line.field("logId"), &json!(id));
    assert_eq!(
        (&log["nextAttemptAt"], &log["refusals"]),
        (&Value::Null, &json!(10))
    );
    let shown = host.get(&format!("{logs}/{id}?{ORG}")).await?.json();
    let attempts = shown["attempts"].as_array().context("attempts")?;
    let outcomes: Vec<_> = attempts.iter().map(|one| &one["outcome"]).collect();
    assert!(
        outcomes.len() >= 2 && outcomes.iter().all(|one| *one == "refused"),
        "{shown}"
    );
    assert_eq!(attempts[0]["requestId"], log["requestId"]);
    assert_eq!(attempts[0]["pluginDigest"], log["pluginDigest"]);
    let named = || async {
        let shown = host.get(&format!("{logs}/{id}?{ORG}")).await.ok()?.json();
        (shown["attempts"][0]["plugin"] == "etsy").then_some(())
    };
    eventually("the plugin's name", PATIENCE, named).await?;
    let foreign = host
        .get(&format!("{logs}/{id}?organizationId=org-2"))
        .await?;
    assert_eq!(
        (foreign.status, foreign.get("error")),
        (404, json!("Store not found"))
    );

    let of_store = |more: Value| {
        let mut body =
            json!({"organizationId": "org-1", "storeId": shop.store_id, "exhausted": true});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        body
    };
    let redrive = "/stores/logs/redrive";
    let dry = host
        .post(redrive, &of_store(json!({"dryRun": true})))
        .await?;
    assert_eq!(dry.json(), json!({"redriven": 1, "dryRun": true}));
    let keyed = || async {
        let body = of_store(json!({"storeId": null, "syncToken": shop.sync_token}));
        let request = host.request("POST", redrive).json(&body);
        Answer::to(request.header("idempotency-key", "once")).await
    };
    let (first, again) = (keyed().await?, keyed().await?);
    assert_eq!(first.json(), json!({"redriven": 1, "dryRun": false}));
    assert_eq!(again.json(), first.json());
    assert_eq!(again.header("idempotent-replayed"), "true");
    let asked = "select receipt from sync_logs where receipt = 'order-102' and refusals = 1";
    ledger.wait_for(asked).await?;
    for (more, error) in [
        (json!({"organizationId": "org-2"}), "Store not found"),
        (json!({"storeId": null}), "Store not found"),
        (json!({"logId": shop.store_id}), "Log not found"),
    ] {
        let refused = host.post(redrive, &of_store(more)).await?;
        assert_eq!((refused.status, refused.get("error")), (404, json!(error)));
    }
    let successes = of_store(json!({"exhausted": null, "status": "success"}));
    assert_eq!(host.post(redrive, &successes).await?.get("redriven"), 0);
    Ok(())
}

/// Whoever asked gets no answer, asks once more, and the receipt is asked about once.
async fn a_redrive_that_dies_is_repeated(backend: Backend) -> Result<()> {
    for (failpoint, left) in [
        ("redrive.commit.before:1", 1),
        ("redrive.commit.after:1", 0),
    ] {
        let (mut host, ledger, shop) = start(backend).await?;
        ensure!(host.stop().await?.success());
        let exhaust = "update sync_logs set exhausted = true, attempt = 1, next_retry_at = null
            where receipt = 'order-102'";
        assert_eq!(ledger.execute(exhaust).await?, 1);
        let site = host.site();
        let mut host = site
            .host()
            .env("WHARF_FAILPOINT", failpoint)
            .start()
            .await?;
        let body = json!({"organizationId": "org-1", "storeId": shop.store_id, "exhausted": true});
        let redrive = "/stores/logs/redrive";
        ensure!(host.post(redrive, &body).await.is_err(), "it was to die");
        assert_eq!(host.wait().await?.signal(), Some(9));
        let host = site.host().start().await?;
        let again = host.post(redrive, &body).await?.json();
        let expected = json!({"redriven": left, "dryRun": false});
        assert_eq!(again, expected, "{failpoint}");
        let asked = "select receipt from sync_logs where receipt = 'order-102' and not exhausted and attempt = 2";
        ledger.wait_for(asked).await?;
    }
    Ok(())
}

async fn receipt_command(host: &Host, args: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(wharf_binary());
    command.env_clear().env("WHARF_ADMIN_TOKEN", ADMIN_TOKEN);
    let output = command.args(args).args(["--url", host.base_url()]);
    let output = output.output().await?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(text)?))
}

async fn operators_have_a_command(backend: Backend) -> Result<()> {
    let (host, ledger, shop) = start(backend).await?;
    let run = async |args: &[&str]| receipt_command(&host, args).await;
    let (_, list) = run(&["receipt", "list", "--status", "failed"]).await?;
    assert!(
        list.contains("order-102") && list.contains("failed"),
        "{list}"
    );
    assert!(!list.contains("order-115"), "{list}");
    let (_, json) = run(&["--json", "receipt", "list", "--receipt", "order-115"]).await?;
    let json: Value = serde_json::from_str(&json)?;
    let id = json["items"][0]["id"].as_str().context("an id")?;
    let (_, shown) = run(&["receipt", "show", id]).await?;
    assert!(
        shown.contains("rate_limited") && shown.contains(&shop.store_id),
        "{shown}"
    );

    let (done, refused) = run(&["receipt", "redrive"]).await?;
    assert!(!done && refused.contains("say which receipts"), "{refused}");
    let (_, dry) = run(&["receipt", "redrive", id]).await?;
    assert!(
        dry.contains("1 receipts would be asked about again"),
        "{dry}"
    );
    let attempts = "select attempt from sync_logs where receipt = 'order-115' and attempt = ";
    assert!(ledger.row(&format!("{attempts}1")).await.is_ok());
    let (done, redriven) = run(&["receipt", "redrive", id, "--yes"]).await?;
    assert!(
        done && redriven.contains("1 receipts are asked"),
        "{redriven}"
    );
    ledger.wait_for(&format!("{attempts}2")).await?;
    let (done, missing) = run(&["receipt", "show", &shop.store_id]).await?;
    assert!(!done && missing.contains("Log not found"), "{missing}");
    Ok(())
}

on_every_backend!(
    receipts_are_listed_and_found,
    an_exhausted_receipt_is_told_of_and_mended,
    a_redrive_that_dies_is_repeated,
    operators_have_a_command,
);
