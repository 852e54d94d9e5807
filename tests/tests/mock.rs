//! `POST /mock/{marketplace}/validate`: the marketplace's own API, played by its adapter.

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use wharf_tests::{
    Answer, Backend, Host, Site,
    model::{Verdict, is_recent_time},
    on_every_backend,
};

/// Asks as the seed's examples do.
async fn ask(host: &Host, marketplace: &str, body: &Value) -> Result<Answer> {
    let request = host.request("POST", &format!("/mock/{marketplace}/validate"));
    let (user, password) = (format!("{marketplace}_user"), format!("{marketplace}_pass"));
    Answer::to(request.basic_auth(user, Some(password)).json(body)).await
}

async fn the_seeds_examples_answer_as_documented(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    for marketplace in ["etsy", "shopify", "amazon"] {
        let success = ask(
            &host,
            marketplace,
            &json!({"receipt": "test1", "currency": "EUR"}),
        )
        .await?;
        assert_eq!(
            (success.status, success.header("content-type")),
            (200, "application/json")
        );
        let body = success.json();
        let mut keys: Vec<_> = body
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        keys.sort();
        assert_eq!(
            keys,
            ["amount", "currency", "importedAtUTC", "orderId", "status"]
        );
        assert_eq!(
            (&body["status"], &body["currency"]),
            (&json!(true), &json!("EUR"))
        );
        assert!(is_recent_time(&body["importedAtUTC"]), "{body}");
        assert!(
            body["amount"].as_f64() > Some(0.0)
                && body["orderId"].as_str().is_some_and(|id| !id.is_empty())
        );
        let refused = ask(&host, marketplace, &json!({"receipt": "test2"})).await?;
        assert_eq!(
            (refused.status, refused.text.as_str()),
            (200, r#"{"status":false}"#)
        );
        let limited = ask(&host, marketplace, &json!({"receipt": "test24"})).await?;
        assert_eq!(
            (limited.status, limited.text.as_str()),
            (429, r#"{"error":"rate_limited"}"#)
        );
        assert!(limited.header("retry-after").parse::<u32>()? > 0);
    }
    currencies(&host).await?;
    bodies(&host).await?;
    marketplaces(&host).await
}

async fn currencies(host: &Host) -> Result<()> {
    for (given, expected) in [
        (json!(null), "USD"),
        (json!("eur"), "EUR"),
        (json!("Gbp"), "GBP"),
    ] {
        let answer = ask(host, "etsy", &json!({"receipt": "1", "currency": given})).await?;
        assert_eq!(answer.get("currency"), expected);
    }
    assert_eq!(
        ask(host, "etsy", &json!({"receipt": "1"}))
            .await?
            .get("currency"),
        "USD"
    );
    for bad in [
        json!(""),
        json!("EU"),
        json!("EURO"),
        json!("E1R"),
        json!("ÄÖÜ"),
        json!(5),
        json!(["EUR"]),
        json!({}),
    ] {
        let answer = ask(host, "etsy", &json!({"receipt": "1", "currency": bad})).await?;
        assert_eq!(
            (answer.status, answer.get("error")),
            (400, json!("Validation error")),
            "{bad}"
        );
        let details = answer.get("details");
        assert_eq!(
            details.as_array().map(Vec::len),
            Some(1),
            "{bad}: {details}"
        );
        assert_eq!(details[0]["path"], "currency");
    }
    Ok(())
}

async fn bodies(host: &Host) -> Result<()> {
    for body in [
        json!({}),
        json!({"receipt": ""}),
        json!({"receipt": null}),
        json!({"receipt": 5}),
        json!({"Receipt": "1"}),
    ] {
        let answer = ask(host, "etsy", &body).await?;
        assert_eq!(
            (answer.status, answer.json()),
            (400, json!({"error": "receipt is required"})),
            "{body}"
        );
    }
    for bad in ["a\u{0}1".to_owned(), "1".repeat(256)] {
        let answer = ask(host, "etsy", &json!({"receipt": bad})).await?;
        assert_eq!(
            (answer.status, answer.get("error")),
            (400, json!("Validation error"))
        );
        assert_eq!(answer.get("details")[0]["path"], "receipt");
    }
    for good in [
        "1".repeat(255),
        "ü".repeat(254) + "1",
        "\u{1f6a2} \n\t\"\\1".into(),
        " 1".into(),
    ] {
        assert_eq!(
            ask(host, "etsy", &json!({"receipt": good}))
                .await?
                .get("status"),
            true,
            "{good}"
        );
    }
    let ignored =
        json!({"receipt": "1", "orderId": "mine", "amount": 5, "nested": {"a": [null, {"b": {}}]}});
    assert_ne!(ask(host, "etsy", &ignored).await?.get("orderId"), "mine");
    Ok(())
}

async fn marketplaces(host: &Host) -> Result<()> {
    let unknown = json!({"error": "Invalid marketplace"});
    for name in [
        "ebay",
        "ETSY",
        "etsy%20",
        "etsy%00",
        "%FF",
        "..%2Fetsy",
        "standard",
        "",
        &"x".repeat(5_000),
    ] {
        let answer = ask(host, name, &json!({"receipt": "1"})).await?;
        assert_eq!(
            (answer.status, answer.json()),
            (400, unknown.clone()),
            "{name:.20}"
        );
    }
    for path in [
        "/mock/etsy",
        "/mock/etsy/validate/",
        "/mock/etsy/validate/1",
        "/Mock/etsy/validate",
    ] {
        let answer = host.post(path, &json!({"receipt": "1"})).await?;
        assert_eq!(
            (answer.status, answer.json()),
            (404, json!({"error": "Not found"})),
            "{path}"
        );
    }
    Ok(())
}

/// Marketplace, then credentials, then body: whatever is wrong later does not show before.
async fn checks_come_in_the_documented_order(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().without_env("MOCK_AMAZON_PASS").start().await?;
    let wrong_bodies: [(&str, Vec<u8>); 5] = [
        ("application/json", b"{}".to_vec()),
        ("application/json", b"{\xff".to_vec()),
        ("application/json", b"[]".to_vec()),
        ("text/plain", b"receipt".to_vec()),
        ("application/json", vec![b' '; 2_000_000]),
    ];
    for (content_type, body) in &wrong_bodies {
        let ask = |marketplace: &str, credentials: Option<&str>| {
            let request = host.request("POST", &format!("/mock/{marketplace}/validate"));
            let request = request
                .header("content-type", *content_type)
                .body(body.clone());
            Answer::to(match credentials {
                Some(user) => {
                    request.basic_auth(format!("{user}_user"), Some(format!("{user}_pass")))
                }
                None => request,
            })
        };
        for credentials in [None, Some("etsy"), Some("ebay")] {
            let answer = ask("ebay", credentials).await?;
            assert_eq!(
                (answer.status, answer.get("error")),
                (400, json!("Invalid marketplace"))
            );
            let answer = ask("amazon", credentials).await?;
            assert_eq!(
                (answer.status, answer.get("error")),
                (500, json!("Marketplace credentials not configured"))
            );
        }
        for credentials in [None, Some("shopify")] {
            let answer = ask("etsy", credentials).await?;
            assert_eq!(
                (answer.status, answer.json()),
                (401, json!({"error": "Unauthorized"}))
            );
            assert!(
                answer
                    .header("www-authenticate")
                    .starts_with("Basic realm="),
                "{:?}",
                answer.headers
            );
        }
        let answer = ask("etsy", Some("etsy")).await?;
        let expected = match (content_type, body.len()) {
            (&"text/plain", _) => (415, "Unsupported media type"),
            (_, 2_000_000) => (413, "Payload too large"),
            (_, 2) if body == b"{}" => (400, "receipt is required"),
            _ => (400, "Validation error"),
        };
        assert_eq!(
            (answer.status, answer.get("error")),
            (expected.0, json!(expected.1))
        );
    }
    Ok(())
}

/// RFC 7617, byte for byte.
async fn basic_credentials_are_read_as_the_standard_says(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site
        .host()
        .env("MOCK_ETSY_USER", "us er")
        .env("MOCK_ETSY_PASS", ":pa:ss wörd:")
        .start()
        .await?;
    let asked = |values: Vec<Vec<u8>>| {
        let request = host
            .request("POST", "/mock/etsy/validate")
            .json(&json!({"receipt": "1"}));
        let with = |request: reqwest::RequestBuilder, value: Vec<u8>| {
            request.header("authorization", value)
        };
        Answer::to(values.into_iter().fold(request, with))
    };
    let encoded = STANDARD.encode("us er::pa:ss wörd:");
    for scheme in ["Basic ", "basic ", "BASIC ", "bAsIc   "] {
        let answer = asked(vec![format!("{scheme}{encoded}").into_bytes()]).await?;
        assert_eq!(answer.status, 200, "{scheme}");
    }
    assert_eq!(
        asked(vec![
            format!("Basic {}", encoded.trim_end_matches('=')).into_bytes()
        ])
        .await?
        .status,
        200
    );
    let right = format!("Basic {encoded}").into_bytes();
    let basic = |pair: &[u8]| vec![format!("Basic {}", STANDARD.encode(pair)).into_bytes()];
    for wrong in [
        vec![],
        vec![right.clone(), right.clone()],
        vec![b"Basic".to_vec()],
        vec![b"Basic ".to_vec()],
        vec![b"Basic %%%".to_vec()],
        vec![b"Basic \xff\xfe".to_vec()],
        vec![encoded.clone().into_bytes()],
        vec![format!("Bearer {encoded}").into_bytes()],
        vec![format!("Basic{encoded}").into_bytes()],
        vec![format!("Basic {encoded} x").into_bytes()],
        basic(b""),
        basic(b":"),
        basic(b"us er"),
        basic(b"us er:"),
        basic("us er:pa:ss wörd:".as_bytes()),
        basic("us er::pa:ss wörd".as_bytes()),
        basic("us er::pa:ss wörd::".as_bytes()),
        basic("US ER::pa:ss wörd:".as_bytes()),
        basic("us er::pa:ss wörd:\0".as_bytes()),
        basic(b"us er::pa:ss w\xf6rd:"),
        basic(b"\xff:\xff"),
        basic(&vec![b'x'; 10_000]),
    ] {
        let answer = asked(wrong.clone()).await?;
        assert_eq!(
            (answer.status, answer.json()),
            (401, json!({"error": "Unauthorized"})),
            "{wrong:?}"
        );
    }
    Ok(())
}

/// All two-character endings of printable ASCII, and digits that are not ASCII's.
async fn receipt_rules_hold_for_every_ending(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let ascii: Vec<char> = match backend {
        Backend::Embedded => (' '..='~').collect(),
        // The rules are the adapter's and know no database: the digits and their neighbours are enough twice.
        Backend::Postgres => ('.'..=':').collect(),
    };
    let odd = ['٣', '３', '¹', 'ⅰ', 'é', '\u{1}'];
    let characters: Vec<char> = ascii.into_iter().chain(odd).collect();
    let pairs = characters
        .iter()
        .flat_map(|a| characters.iter().map(move |b| format!("{a}{b}")));
    let receipts = pairs.chain(characters.iter().map(char::to_string));
    let checks = stream::iter(receipts).map(async |receipt| {
        let answer = ask(&host, "etsy", &json!({"receipt": receipt})).await?;
        let verdict = match (answer.status, answer.get("status")) {
            (200, Value::Bool(true)) => Verdict::Imported,
            (200, Value::Bool(false)) => Verdict::Refused,
            (429, Value::Null) => Verdict::RateLimited,
            other => anyhow::bail!("{receipt:?} was answered {other:?}"),
        };
        anyhow::ensure!(
            verdict == Verdict::of(&receipt),
            "{receipt:?} was judged {verdict:?}"
        );
        Ok(())
    });
    checks.buffer_unordered(16).try_collect().await
}

on_every_backend!(
    the_seeds_examples_answer_as_documented,
    checks_come_in_the_documented_order,
    basic_credentials_are_read_as_the_standard_says,
    receipt_rules_hold_for_every_ending,
);
