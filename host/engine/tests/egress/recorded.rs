//! Calls of authors: bodies as large as granted, and exchanges that are kept without credentials.

use wharf_domain::{AccessToken, Answer};

use crate::support::{self, component, request};
use crate::upstream::{Upstream, json};

/// The operator's grant is the limit of a body, and the SDK has none of its own.
#[tokio::test]
async fn a_body_may_be_as_large_as_granted() {
    let upstream = Upstream::answering(json("200 OK", &"x".repeat(3 << 20))).await;
    for (limit, id) in [(4 << 20, Some("order-3145728")), (2 << 20, None)] {
        let engine = support::engine();
        let origin = format!("http://{}", upstream.address);
        let more = "private_networks = ['127.0.0.0/8']";
        let grants = format!(
            "origins = ['{origin}']\n{more}\n[config]\nbase_url = '{origin}'\n[limits]\nhttp_body_bytes = {limit}\n"
        );
        // It does not pass the checks: it is asked once, as its author does.
        let asked = engine
            .validate_once(component("careless-adapter"), Some(&grants), request("A-1"))
            .await
            .expect("it loads");
        match (asked.answer, id) {
            (Ok(Answer::Accepted(order)), Some(id)) => assert_eq!(order.id, id),
            (Ok(Answer::Refused(_)), None) => {}
            (answer, _) => panic!("{limit}: {answer:?}"),
        }
    }
}

/// What is exchanged is kept for the author: enough to play it again, and no credential.
#[tokio::test]
async fn a_call_is_recorded_without_credentials() {
    let order = r#"{"status":true,"orderId":"o-s3cret-token-1","amount":10.10,"currency":"EUR","importedAtUTC":
        "2024-01-01T12:00:00.000Z"}"#;
    let told = json("200 OK", order).replacen("\r\n", "\r\nset-cookie: a=b\r\n", 1);
    let upstream = Upstream::answering(told).await;
    let mut asked = request("order-101");
    asked.access_token = AccessToken::parse("s3cret-token").ok();
    let grants = upstream.grants();
    let asked = support::engine()
        .validate_once(component("http-marketplace"), Some(&grants), asked)
        .await
        .expect("it loads");
    assert!(upstream.heard()[0].contains("s3cret-token"), "it was sent");
    let [exchange] = &asked.exchanges[..] else {
        panic!("one exchange: {asked:?}")
    };
    assert_eq!(
        (exchange.method.as_str(), &exchange.credentials),
        ("POST", &vec!["marketplace".into()])
    );
    assert_eq!(exchange.body, r#"{"receipt":"order-101","currency":"EUR"}"#);
    let vectors = asked.vectors.expect("a file of vectors");
    let kept = format!("{exchange:?}{vectors}");
    for leak in ["s3cret", "authorization", "access-token"] {
        assert!(!kept.contains(leak), "{leak}: {kept}");
    }
    assert!(
        vectors.contains(r#""amount":10.10"#) && !vectors.contains("set-cookie"),
        "{vectors}"
    );
    // It is played again as it was, with nothing granted but what is in it.
    let facts = wharf_engine::PackFacts {
        vectors: vec![vectors],
        ..wharf_engine::PackFacts::default()
    };
    // As the compiler built it, without the vectors that it ships with.
    let packed = wharf_engine::pack(&component("http_marketplace"), &facts).expect("packed");
    let report = support::engine().check(packed, Some(&grants)).await;
    assert!(report.passed(), "{report}");
    let last = report
        .conformance
        .checks
        .last()
        .expect("the check of vectors");
    assert_eq!(last.cases, 1);
}
