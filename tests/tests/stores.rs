//! `POST /stores/register`, `GET /stores/sync-status` and `POST /stores/sync`.

use std::collections::BTreeSet;

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};
use uuid::Uuid;
use wharf_tests::{
    Answer, Backend, Host, Ledger, Shop,
    model::{Verdict, is_recent_time, sync_status},
    on_every_backend,
};

const FIELDS: [&str; 6] = [
    "organizationId",
    "marketplace",
    "externalStoreId",
    "storeName",
    "accessToken",
    "currency",
];

async fn a_registration_is_made_once_and_then_updated(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let first = Shop::registration("org-123", "etsy");
    let answer = host.post("/stores/register", &first).await?;
    let body = answer.json();
    assert_eq!(
        (answer.status, body.as_object().map(serde_json::Map::len)),
        (200, Some(2)),
        "{body}"
    );
    let version = |id: &Value| {
        id.as_str()
            .and_then(|id| id.parse::<Uuid>().ok())
            .map(|id| id.get_version_num())
    };
    assert_eq!(
        (version(&body["storeId"]), version(&body["syncToken"])),
        (Some(7), Some(4))
    );

    let ledger = Ledger::open(host.site()).await?;
    let stored = "select store_name, currency, access_token as token from stores";
    let before = ledger.row(stored).await?;
    let mut changed = first.clone();
    changed["storeName"] = "Another name".into();
    changed["accessToken"] = "token-v2".into();
    changed["currency"] = "eur".into();
    changed["unknown"] = json!({"deep": [1, {"er": null}]});
    assert_eq!(
        host.post("/stores/register", &changed).await?.json(),
        body,
        "the same two ids"
    );
    let after = ledger.row(stored).await?;
    assert_eq!(
        (&after["store_name"], &after["currency"]),
        (&json!("Another name"), &json!("EUR"))
    );
    assert_ne!(after["token"], before["token"]);
    let shop = Shop::open(&host, "org-123", "etsy").await?;
    assert_eq!(
        (json!(shop.store_id), json!(shop.sync_token)),
        (body["storeId"].clone(), body["syncToken"].clone())
    );

    let mut keys = BTreeSet::from([shop.sync_token]);
    for (field, value) in [
        ("organizationId", "org-124"),
        ("marketplace", "shopify"),
        ("externalStoreId", "EXT-100"),
    ] {
        let mut other = first.clone();
        other[field] = value.into();
        assert!(
            keys.insert(Shop::register(&host, &other).await?.sync_token),
            "{field} makes another store"
        );
    }
    Ok(())
}

async fn simultaneous_registrations_make_one_store(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let names = (0..32).map(|n| {
        let mut registration = Shop::registration("org-1", "etsy");
        registration["storeName"] = format!("name {n}").into();
        registration["currency"] = format!("A{}A", char::from(b'A' + n % 26)).into();
        registration
    });
    let registrations: Vec<_> = names.collect();
    let shops = try_join_all(
        registrations
            .iter()
            .map(|registration| Shop::register(&host, registration)),
    )
    .await?;
    assert!(shops.iter().all(|shop| *shop == shops[0]), "{shops:?}");
    let ledger = Ledger::open(host.site()).await?;
    let stored = ledger
        .row("select store_name, currency from stores")
        .await?;
    let whole =
        |r: &Value| r["storeName"] == stored["store_name"] && r["currency"] == stored["currency"];
    assert!(
        registrations.iter().any(whole),
        "one registration whole, not parts of two: {stored}"
    );
    Ok(())
}

async fn every_field_of_a_registration_is_checked(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let refused = async |body: &Value, paths: &[&str]| -> Result<()> {
        let answer = host.post("/stores/register", body).await?;
        assert_eq!(
            (answer.status, answer.get("error")),
            (400, json!("Validation error")),
            "{body:.100}"
        );
        assert_eq!(paths_of(&answer), paths, "{body:.100}");
        Ok(())
    };
    let good = Shop::registration("org-1", "etsy");
    refused(&json!({}), &FIELDS).await?;
    for field in FIELDS {
        let with = |value: Value| {
            let mut body = good.clone();
            body[field] = value;
            body
        };
        let most = match field {
            "accessToken" => 8_192,
            "marketplace" => 64,
            _ => 255,
        };
        for bad in [
            json!(null),
            json!(""),
            json!(1),
            json!(1.5),
            json!(true),
            json!([]),
            json!(["a"]),
            json!({"a": "b"}),
        ] {
            refused(&with(bad), &[field]).await?;
        }
        refused(&with(json!("a\u{0}b")), &[field]).await?;
        refused(&with(json!("\u{0}")), &[field]).await?;
        refused(&with(json!("x".repeat(most + 1))), &[field]).await?;
        let mut without = good.clone();
        without.as_object_mut().expect("an object").remove(field);
        refused(&without, &[field]).await?;
        if !["currency", "marketplace"].contains(&field) {
            for longest in [
                "x".repeat(most),
                "\u{1f6a2}".repeat(most),
                " ".into(),
                "a'b\"\\\n\t\u{7f}".into(),
            ] {
                assert_eq!(
                    host.post("/stores/register", &with(json!(longest)))
                        .await?
                        .status,
                    200,
                    "{field}"
                );
            }
        }
    }
    for currency in ["US", "USDX", "US1", "U D", "ÜSD", "usd ", "U\u{0}D"] {
        let mut body = good.clone();
        body["currency"] = currency.into();
        refused(&body, &["currency"]).await?;
    }
    // No plugin can have the first ones, and none has the last two.
    for marketplace in [
        "Etsy",
        "etsy ",
        "e_tsy",
        "\u{1f6a2}",
        "a'b",
        "no-adapter",
        &"x".repeat(64),
    ] {
        let mut body = good.clone();
        body["marketplace"] = marketplace.into();
        refused(&body, &["marketplace"]).await?;
    }
    let mut unserved = good.clone();
    unserved["marketplace"] = "no-adapter".into();
    let details = json!([{"path": "marketplace", "message": "no plugin serves it"}]);
    assert_eq!(
        host.post("/stores/register", &unserved).await?.json(),
        json!({"error": "Validation error", "details": details})
    );
    let all_wrong: Value = FIELDS
        .iter()
        .map(|field| ((*field).to_owned(), json!(0)))
        .collect();
    refused(&all_wrong, &FIELDS).await
}

fn paths_of(answer: &Answer) -> Vec<String> {
    let details = answer.get("details");
    let entries = details.as_array().into_iter().flatten();
    entries
        .map(|detail| {
            assert!(
                detail["message"]
                    .as_str()
                    .is_some_and(|message| !message.is_empty()),
                "{detail}"
            );
            detail["path"].as_str().unwrap_or_default().to_owned()
        })
        .collect()
}

async fn the_status_follows_the_rule(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let fresh = Shop::open(&host, "org-0", "etsy").await?;
    let pending = json!({"lastSyncAt": null, "importedOrders": 0, "syncStatus": "pending", "rateLimitedCount": 0});
    assert_eq!(fresh.status(&host).await?, pending);
    // Every short history, and long ones in which the window of twenty moves on.
    let endings = [Verdict::Imported, Verdict::Refused, Verdict::RateLimited];
    let short = endings
        .into_iter()
        .flat_map(|a| endings.map(|b| [a, b]))
        .flat_map(|[a, b]| endings.map(|c| vec![a, b, c]));
    let long = [Verdict::Refused, Verdict::RateLimited].map(|first| {
        let mut history = vec![first];
        history.extend([Verdict::Imported; 21]);
        history.push(first);
        history
    });
    let failing = {
        let mut history = vec![Verdict::Imported];
        history.extend([Verdict::Refused; 21]);
        vec![history]
    };
    let histories: Vec<_> = short.chain(long).chain(failing).collect();
    try_join_all(
        histories
            .iter()
            .enumerate()
            .map(|(number, history)| follow(&host, number, history)),
    )
    .await?;
    Ok(())
}

/// Imports receipts with these verdicts one after the other; after each the status must be the rule's.
async fn follow(host: &Host, number: usize, history: &[Verdict]) -> Result<()> {
    let shop = Shop::open(host, &format!("org-{}", number + 1), "etsy").await?;
    for (at, verdict) in history.iter().enumerate() {
        let ending = match verdict {
            Verdict::Imported => "a1",
            Verdict::Refused => "a2",
            Verdict::RateLimited => "00",
        };
        shop.import(host, &format!("{at}-{ending}")).await?;
        let so_far = &history[..=at];
        let count = |wanted| so_far.iter().filter(|verdict| **verdict == wanted).count();
        let mut status = shop.status(host).await?;
        let last = status["lastSyncAt"].take();
        assert!(is_recent_time(&last), "the marketplace was asked: {last}");
        let expected = json!({
            "lastSyncAt": null,
            "importedOrders": count(Verdict::Imported),
            "syncStatus": sync_status(so_far),
            "rateLimitedCount": count(Verdict::RateLimited),
        });
        assert_eq!(status, expected, "{so_far:?}");
    }
    Ok(())
}

async fn tokens_are_checked_and_runs_are_queued(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let (known, unknown) = (&shop.sync_token, "0190a5e4-7b1c-7def-8abc-0123456789ab");
    for (query, status) in [
        (format!("?syncToken={known}"), 200),
        (format!("?other=1&other=2&syncToken={known}&%FF=%FF"), 200),
        (format!("?syncToken={}", known.to_uppercase()), 200),
        (format!("?syncToken={unknown}"), 404),
        (format!("?syncToken={}", shop.store_id), 404),
        (String::new(), 400),
        ("?".into(), 400),
        ("?syncToken".into(), 400),
        ("?syncToken=".into(), 400),
        ("?syncToken=token".into(), 400),
        ("?syncToken=%00".into(), 400),
        ("?syncToken=%FF%FE".into(), 400),
        (format!("?synctoken={known}"), 400),
        (format!("?syncToken={known}%00"), 400),
        (format!("?syncToken={known}&syncToken={known}"), 400),
        (format!("?syncToken={known}&sync%54oken={unknown}"), 400),
        (format!("?syncToken[]={known}"), 400),
        (format!("?syncToken={}", "x".repeat(8_000)), 400),
    ] {
        let answer = host.get(&format!("/stores/sync-status{query}")).await?;
        assert_eq!(answer.status, status, "{query:.80}: {}", answer.text);
        match status {
            404 => assert_eq!(answer.json(), json!({"error": "Store not found"})),
            400 => assert_eq!(
                (answer.get("error"), paths_of(&answer)),
                (json!("Validation error"), vec!["syncToken".into()])
            ),
            _ => {}
        }
    }
    let queued = shop.request_sync(&host).await?;
    assert_eq!(queued["jobId"], format!("store:{}", shop.store_id));
    assert_eq!(queued["storeId"], shop.store_id);
    let answer = host
        .post("/stores/sync", &json!({"syncToken": unknown}))
        .await?;
    assert_eq!(
        (answer.status, answer.json()),
        (404, json!({"error": "Store not found"}))
    );
    for bad in [
        json!({}),
        json!({"syncToken": 1}),
        json!({"syncToken": "x"}),
    ] {
        let answer = host.post("/stores/sync", &bad).await?;
        assert_eq!(
            (answer.status, paths_of(&answer)),
            (400, vec!["syncToken".into()])
        );
    }
    Ok(())
}

on_every_backend!(
    a_registration_is_made_once_and_then_updated,
    simultaneous_registrations_make_one_store,
    every_field_of_a_registration_is_checked,
    the_status_follows_the_rule,
    tokens_are_checked_and_runs_are_queued,
);
