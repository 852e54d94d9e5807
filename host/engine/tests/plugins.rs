//! The project's own plugins, run for real.

mod support;

use support::{ask, component, engine, engine_with, event, shape};
use wharf_domain::Answer;
use wharf_engine::{Digest, Fault, Kind, Manifest, PluginState, inspect};

#[tokio::test]
async fn every_mock_adapter_judges_by_the_seeds_rules() {
    let engine = engine();
    for name in ["etsy", "shopify", "amazon"] {
        let digest = engine
            .load(name, component(name))
            .await
            .expect("a good adapter");
        assert_eq!(digest, Digest::of(&component(name)));
        let accepted = ask(&engine, name, "order-101").await;
        assert_eq!(accepted.digest, Some(digest));
        let Ok(Answer::Accepted(order)) = accepted.result else {
            panic!("{accepted:?}")
        };
        assert_eq!(
            (
                order.currency.as_str(),
                order.imported_at.to_string().as_str()
            ),
            ("EUR", "2024-01-01T12:00:00.123Z")
        );
        assert!(matches!(
            ask(&engine, name, "order-102").await.result,
            Ok(Answer::Refused(_))
        ));
        assert!(matches!(
            ask(&engine, name, "order-115").await.result,
            Ok(Answer::RateLimited(_))
        ));
    }
    assert_eq!(engine.marketplaces(), ["amazon", "etsy", "shopify"]);
    assert!(engine.serves("etsy") && !engine.serves("standard"));
}

#[tokio::test]
async fn the_standard_payload_is_the_contracts_byte_for_byte() {
    let engine = engine_with("standard-payload").await;
    let first = engine
        .shape("standard", &event("org-1", r#"{"b":1.50,"a":"ü"}"#))
        .await
        .result
        .expect("a message");
    let body = String::from_utf8(first.body.clone()).expect("text");
    let ids = (
        "07070707-0707-4707-8707-070707070707",
        "09090909-0909-4909-8909-090909090909",
    );
    let expected = format!(
        r#"{{"eventId":"{}","event":"sync.completed","timestamp":"2024-01-01T12:00:00.123Z","organizationId":"org-1","storeId":"{}","data":{{"b":1.50,"a":"ü"}}}}"#,
        ids.0, ids.1
    );
    assert_eq!(body, expected);
    assert_eq!(first.content_type, "application/json");
    let again = engine
        .shape("standard", &event("org-1", r#"{"b":1.50,"a":"ü"}"#))
        .await
        .result
        .expect("a message");
    assert_eq!(first, again, "a retry sends identical bytes");
}

#[tokio::test]
async fn a_report_says_what_a_plugin_is() {
    let engine = engine_with("etsy").await;
    let [report] = &engine.plugins()[..] else {
        panic!("one plugin")
    };
    assert_eq!(
        (report.plugin.as_str(), report.serves.as_deref()),
        ("etsy", Some("etsy"))
    );
    assert_eq!(
        (report.kind, &report.state),
        (Some(Kind::Adapter), &PluginState::Active)
    );
    assert_eq!(report.size, Some(component("etsy").len()));
    let Some(Manifest::Adapter(manifest)) = &report.manifest else {
        panic!("a manifest")
    };
    assert!(manifest.wanted_origins.is_empty());
    assert!(
        report
            .inspection
            .as_ref()
            .is_some_and(|inspection| inspection.contract == "0.1.0")
    );
    assert!(
        !inspect(&component("etsy"))
            .expect("a component")
            .wants_http()
    );
}

#[tokio::test]
async fn names_that_nobody_serves_are_parked() {
    let engine = engine_with("etsy").await;
    for called in [
        ask(&engine, "ebay", "order-101").await,
        ask(&engine, "ETSY", "order-101").await,
    ] {
        assert_eq!(
            (called.digest, &called.result),
            (None, &Err(Fault::NotFound))
        );
        assert!(matches!(
            Fault::NotFound.into_answer(),
            Answer::Deferred { .. }
        ));
    }
    assert_eq!(
        shape(&engine, "etsy", "org").await.result,
        Err(Fault::NotFound)
    );
}

#[tokio::test]
async fn two_plugins_cannot_serve_one_name() {
    let engine = engine_with("etsy").await;
    let refusal = engine
        .load("other", component("etsy"))
        .await
        .expect_err("etsy is taken");
    assert!(refusal.cause.contains("already serves"), "{refusal}");
    assert!(engine.serves("etsy"));
    let refusal = engine
        .load("Shopify", component("shopify"))
        .await
        .expect_err("a name in upper case");
    assert!(refusal.fix.contains("rename"), "{refusal}");
}
