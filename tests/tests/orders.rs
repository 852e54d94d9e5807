//! `POST /orders/import`.

use std::collections::BTreeSet;

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};
use wharf_tests::{
    Answer, Backend, Host, Ledger, Shop, Site,
    model::{Verdict, is_recent_time},
    on_every_backend,
};

/// The seed's first receipts with what they came to when this was written: a change would give every order that was
/// imported before another amount.
const ORDERS: [(&str, &str, &str); 3] = [
    ("order-101", "order-1b906bc28b57fdc2", "788.10"),
    ("test1", "order-1f857c484dfd32fc", "310.92"),
    ("\u{1f6a2}9", "order-61a14feedebb7277", "676.47"),
];

async fn an_import_answers_as_documented_and_again_the_same(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    for (receipt, order_id, amount) in ORDERS {
        let first = shop.try_import(&host, receipt).await?;
        let body = first.json();
        assert_eq!(first.status, 200);
        assert!(is_recent_time(&body["importedAt"]), "{body}");
        // The digits themselves: through a float some would change.
        let expected = format!(
            r#"{{"success":true,"orderId":"{order_id}","amount":{amount},"currency":"USD","importedAt":{}}}"#,
            body["importedAt"]
        );
        assert_eq!(first.text, expected);
        assert_eq!(
            shop.try_import(&host, receipt).await?.text,
            expected,
            "again"
        );
    }
    for (receipt, error) in [
        ("order-102", "invalid_receipt"),
        ("order-115", "rate_limited"),
        ("x", "invalid_receipt"),
    ] {
        for _ in 0..2 {
            let answer = shop.try_import(&host, receipt).await?;
            assert_eq!(
                (answer.status, answer.json()),
                (200, json!({"success": false, "error": error}))
            );
        }
    }
    let ledger = Ledger::open(host.site()).await?;
    let asked = ledger
        .row("select count(*) as logs, max(attempt) as most, min(attempt) as least from sync_logs")
        .await?;
    assert_eq!(
        asked,
        json!({"logs": 6, "most": 1, "least": 1}),
        "the adapter was asked once per receipt"
    );
    assert_eq!(
        ledger
            .row("select count(*) as n from sync_logs where plugin_digest is null")
            .await?["n"],
        0
    );
    let retry = ledger.seconds_between("updated_at", "next_retry_at");
    let limited = format!(
        "select status, attempt, {retry} as wait from sync_logs where receipt = 'order-115'"
    );
    let limited = ledger.row(&limited).await?;
    assert_eq!(
        (&limited["status"], &limited["attempt"]),
        (&json!("rate_limited"), &json!(1))
    );
    assert!(
        (240.0..=300.0).contains(&limited["wait"].as_f64().unwrap_or_default()),
        "{limited}"
    );
    a_store_has_its_own_receipts_and_currency(&host, &shop).await
}

async fn a_store_has_its_own_receipts_and_currency(host: &Host, first: &Shop) -> Result<()> {
    let mut registration = Shop::registration("org-1", "shopify");
    registration["currency"] = "jpy".into();
    let other = Shop::register(host, &registration).await?;
    let (here, there) = (
        first.import(host, "order-101").await?,
        other.import(host, "order-101").await?,
    );
    assert_eq!(
        (&there["currency"], &there["amount"]),
        (&json!("JPY"), &here["amount"])
    );
    assert_ne!(here["importedAt"], there["importedAt"]);
    assert_eq!(other.status(host).await?["importedOrders"], 1);
    Ok(())
}

async fn every_ending_is_judged_by_the_rules_and_counted(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let characters: Vec<char> = ('.'..=':')
        .chain(['a', 'Z', ' ', '\n', '٣', '３', 'é', '\u{1f6a2}'])
        .collect();
    let mut receipts: Vec<String> = characters.iter().map(char::to_string).collect();
    receipts.extend(
        characters
            .iter()
            .flat_map(|a| characters.iter().map(move |b| format!("{a}{b}"))),
    );
    let mut orders = BTreeSet::new();
    for batch in receipts.chunks(64) {
        let bodies = try_join_all(batch.iter().map(|receipt| shop.import(&host, receipt))).await?;
        for (receipt, body) in batch.iter().zip(bodies) {
            let verdict = Verdict::of(receipt);
            assert_eq!(
                (&body["success"], &body["error"]),
                (&json!(verdict == Verdict::Imported), &verdict.error())
            );
            orders.extend(body["orderId"].as_str().map(str::to_owned));
        }
    }
    let count = |wanted| {
        receipts
            .iter()
            .filter(|receipt| Verdict::of(receipt) == wanted)
            .count()
    };
    let status = shop.status(&host).await?;
    assert_eq!(status["importedOrders"], count(Verdict::Imported));
    assert_eq!(status["rateLimitedCount"], count(Verdict::RateLimited));
    assert_eq!(
        orders.len(),
        count(Verdict::Imported),
        "different receipts are different orders"
    );
    Ok(())
}

async fn simultaneous_imports_of_one_receipt_have_one_result(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().start().await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let ledger = Ledger::open(&site).await?;
    for (round, receipt) in ["race-1", "race-2", "race-15", "race-3"]
        .into_iter()
        .enumerate()
    {
        let answers = try_join_all((0..32).map(|_| shop.try_import(&host, receipt))).await?;
        let texts: BTreeSet<_> = answers
            .into_iter()
            .map(|answer| (answer.status, answer.text))
            .collect();
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert_eq!(texts.first().map(|(status, _)| *status), Some(200));
        let logs = ledger
            .row("select count(*) as n, max(attempt) as attempts from sync_logs")
            .await?;
        assert_eq!(logs, json!({"n": round + 1, "attempts": 1}));
    }
    let status = shop.status(&host).await?;
    assert_eq!(
        (&status["importedOrders"], &status["rateLimitedCount"]),
        (&json!(2), &json!(1))
    );
    Ok(())
}

async fn what_cannot_be_imported_is_refused(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let token = &shop.sync_token;
    let fine = json!({"syncToken": token.to_uppercase(), "receipt": "1", "amount": 5, "extra": {"a": [1, null]}});
    assert_eq!(
        host.post("/orders/import", &fine).await?.get("success"),
        true,
        "unknown fields are ignored"
    );
    let unknown = json!({"syncToken": "0190a5e4-7b1c-7def-8abc-0123456789ab", "receipt": "1"});
    let answer = host.post("/orders/import", &unknown).await?;
    assert_eq!(
        (answer.status, answer.json()),
        (404, json!({"error": "Store not found"}))
    );
    let store_id = json!({"syncToken": shop.store_id, "receipt": "1"});
    assert_eq!(
        host.post("/orders/import", &store_id).await?.status,
        404,
        "the store's id opens nothing"
    );
    for (body, paths) in [
        (json!({}), &["syncToken", "receipt"][..]),
        (json!({"syncToken": token}), &["receipt"]),
        (json!({"receipt": "1"}), &["syncToken"]),
        (
            json!({"syncToken": null, "receipt": null}),
            &["syncToken", "receipt"],
        ),
        (
            json!({"syncToken": 5, "receipt": ["1"]}),
            &["syncToken", "receipt"],
        ),
        (
            json!({"syncToken": {}, "receipt": true}),
            &["syncToken", "receipt"],
        ),
        (
            json!({"syncToken": "", "receipt": ""}),
            &["syncToken", "receipt"],
        ),
        (
            json!({"syncToken": "token", "receipt": "1"}),
            &["syncToken"],
        ),
        (
            json!({"syncToken": token.replace('-', ""), "receipt": "1"}),
            &["syncToken"],
        ),
        (
            json!({"syncToken": format!(" {token}"), "receipt": "1"}),
            &["syncToken"],
        ),
        (
            json!({"syncToken": format!("{token}\u{0}"), "receipt": "1"}),
            &["syncToken"],
        ),
        (
            json!({"syncToken": token, "receipt": "a\u{0}1"}),
            &["receipt"],
        ),
        (
            json!({"syncToken": token, "receipt": "1".repeat(256)}),
            &["receipt"],
        ),
        (
            json!({"synctoken": token, "RECEIPT": "1"}),
            &["syncToken", "receipt"],
        ),
    ] {
        refused(host.post("/orders/import", &body).await?, paths, &body);
    }
    for receipt in [
        "1".repeat(255),
        "\u{10ffff}".repeat(254) + "1",
        "'; drop table sync_logs; --1".into(),
    ] {
        assert_eq!(shop.import(&host, &receipt).await?["success"], true);
    }
    assert_eq!(shop.status(&host).await?["importedOrders"], 4);
    Ok(())
}

fn refused(answer: Answer, paths: &[&str], body: &Value) {
    assert_eq!(
        (answer.status, answer.get("error")),
        (400, json!("Validation error")),
        "{body}"
    );
    let details = answer.get("details");
    let details = details.as_array().expect("details");
    let found: Vec<_> = details
        .iter()
        .map(|detail| detail["path"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(found, paths, "{body}");
    assert!(details.iter().all(|detail| {
        detail["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty())
    }));
}

on_every_backend!(
    an_import_answers_as_documented_and_again_the_same,
    every_ending_is_judged_by_the_rules_and_counted,
    simultaneous_imports_of_one_receipt_have_one_result,
    what_cannot_be_imported_is_refused,
);
