use wharf_plugin_sdk::{http::Error, http::Response, testing};

use super::*;

const ORDER: &str = r#"{"status":true,"orderId":"o-1","amount":10.10,"currency":"EUR","importedAtUTC":"2024-01-01T12:00:00.000Z"}"#;

fn asked(config: &[(&str, &str)], answer: Result<Response, Error>) -> Result<Verdict, Fault> {
    let request = Request {
        receipt: "a \"1\"".into(),
        currency: "EUR".into(),
        external_store_id: "s".into(),
        now: "2024-01-01T12:00:00.000Z".into(),
    };
    let upstream = move |request: &http::Request| {
        assert_eq!(request.url, "http://127.0.0.1:3000/mock/etsy/validate");
        assert_eq!(request.body, br#"{"receipt":"a \"1\"","currency":"EUR"}"#);
        answer.clone()
    };
    testing::with_config(config.iter().copied(), || {
        testing::with_upstream(upstream, || HttpMarketplace::validate(request))
    })
}

fn answered(status: u16, body: &str) -> Result<Verdict, Fault> {
    let headers = vec![("Retry-After".into(), "7".into())];
    let config = [
        ("base_url", "http://127.0.0.1:3000/"),
        ("marketplace", "etsy"),
    ];
    asked(
        &config,
        Ok(Response {
            status,
            headers,
            body: body.into(),
        }),
    )
}

#[test]
fn amounts_stay_as_they_are_written() {
    let Ok(Verdict::Accepted(order)) = answered(200, ORDER) else {
        panic!("accepted")
    };
    assert_eq!(order.amount, "10.10");
    assert_eq!(order.id, "o-1");
    // Any JSON number may come, and is the same amount.
    for (written, amount) in [("1.0E7", "10000000"), ("12.5000000", "12.5")] {
        let Ok(Verdict::Accepted(order)) = answered(200, &ORDER.replace("10.10", written)) else {
            panic!("accepted: {written}")
        };
        assert_eq!(order.amount, amount);
    }
}

#[test]
fn the_marketplaces_answers_become_verdicts_and_faults() {
    assert!(matches!(
        answered(200, r#"{"status":false}"#),
        Ok(Verdict::Rejected(_))
    ));
    assert!(matches!(
        answered(429, r#"{"error":"rate_limited"}"#),
        Err(Fault::RateLimited(Some(7)))
    ));
    assert!(matches!(answered(401, "{}"), Err(Fault::Unauthorized(_))));
    assert!(matches!(answered(400, "{}"), Err(Fault::Misconfigured(_))));
    for status in [404, 503] {
        assert!(
            matches!(answered(status, ORDER), Err(Fault::Unavailable(_))),
            "{status}"
        );
    }
}

#[test]
fn nonsense_is_unavailable() {
    let changed = |from: &str, to: &str| ORDER.replace(from, to);
    for body in [
        String::new(),
        "null".into(),
        "<html>".into(),
        r#"{"status":"true"}"#.into(),
        r#"{"status":true}"#.into(),
        changed("10.10", "\"10.10\""),
        changed("10.10", "1e-7"),
        changed("10.10", "-1"),
        changed("10.10", "null"),
        changed("EUR", "eur"),
        changed("o-1", ""),
        changed("2024-", "24-"),
    ] {
        assert!(
            matches!(answered(200, &body), Err(Fault::Unavailable(_))),
            "{body}"
        );
    }
}

#[test]
fn what_does_not_arrive_is_unavailable_and_what_is_not_granted_misconfigured() {
    let config = [
        ("base_url", "http://127.0.0.1:3000"),
        ("marketplace", "etsy"),
    ];
    for error in [
        Error::TimedOut,
        Error::TooLarge,
        Error::Failed("reset".into()),
    ] {
        assert!(matches!(
            asked(&config, Err(error)),
            Err(Fault::Unavailable(_))
        ));
    }
    assert!(matches!(
        asked(&config, Err(Error::Denied)),
        Err(Fault::Misconfigured(_))
    ));
}

#[test]
fn wrong_configuration_is_told() {
    let good = ("marketplace", "etsy");
    for config in [
        vec![],
        vec![good],
        vec![("base_url", "http://127.0.0.1:3000")],
        vec![("base_url", "ftp://a"), good],
        vec![("base_url", "http://"), good],
        vec![("base_url", "http://u:p@a"), good],
        vec![("base_url", "http://a/?q"), good],
        vec![
            ("base_url", "http://127.0.0.1:3000"),
            ("marketplace", "../x"),
        ],
    ] {
        assert!(
            matches!(
                asked(&config, Err(Error::TimedOut)),
                Err(Fault::Misconfigured(_))
            ),
            "{config:?}"
        );
    }
}

#[test]
fn the_manifest_follows_the_configuration() {
    assert!(HttpMarketplace::manifest().wanted_origins.is_empty());
    let manifest = testing::with_config(
        [("base_url", "https://a:8443/x"), ("serve_as", "shop")],
        HttpMarketplace::manifest,
    );
    assert_eq!(manifest.wanted_origins, ["https://a:8443"]);
    assert_eq!(manifest.marketplace, "shop");
}
