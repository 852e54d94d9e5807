//! The contract checks and vectors: good plugins pass, faulty ones are stopped with a reason, and authors are told all of it.

mod support;

use support::{ask, component, engine, engine_with, stamped};
use wharf_engine::{ContractCheck, PackFacts, Stage, pack};

const ALL: [&str; 7] = [
    "etsy",
    "shopify",
    "amazon",
    "standard-payload",
    "http-marketplace",
    "cloudevents",
    "slack",
];

const HTTP_GRANTS: &str = "origins = ['http://127.0.0.1:1']\n[config]\nbase_url = 'http://127.0.0.1:1'\n\
    marketplace = 'etsy'\n[credentials.marketplace]\nscheme = 'bearer'\ntoken = { store = 'access-token' }";

#[tokio::test]
async fn every_plugin_of_the_project_passes() {
    let engine = engine();
    for name in ALL {
        let grants = (name == "http-marketplace").then_some(HTTP_GRANTS);
        let report = engine.check(component(name), grants).await;
        assert!(report.passed(), "{name}:\n{report}");
        let vectors = report
            .conformance
            .checks
            .iter()
            .find(|check| check.check == ContractCheck::Vectors)
            .expect("the check of vectors");
        eprintln!("{name}: {} vectors", vectors.cases);
    }
    assert!(engine.plugins().is_empty(), "checking lets nothing serve");
}

#[tokio::test]
async fn an_author_is_told_everything_and_a_host_refuses() {
    let engine = engine();
    for (stamp, check, cause) in [
        ("describe random", ContractCheck::SameManifest, "manifest"),
        ("unicode trap", ContractCheck::Answers, "trapped"),
        ("always amount:1e3", ContractCheck::Answers, "amount"),
        ("always random", ContractCheck::SameAnswer, "another answer"),
    ] {
        let bytes = stamped(component("hostile-adapter"), stamp);
        let report = engine.check(bytes.clone(), None).await;
        assert_eq!(report.conformance.checks.len(), 5, "every check ran");
        let failures = &report
            .conformance
            .checks
            .iter()
            .find(|tried| tried.check == check)
            .expect("the check")
            .failures;
        assert!(
            failures.iter().any(|failure| failure.cause.contains(cause)),
            "{stamp}:\n{report}"
        );
        assert!(report.to_string().ends_with("FAILED"));
        let refusal = engine.load("faulty", bytes).await.expect_err(stamp);
        assert_eq!(refusal.stage, Stage::Conform, "{refusal}");
        assert!(!engine.serves("hostile"), "it never served");
    }
}

#[tokio::test]
async fn vectors_are_packed_and_run_again_by_the_host() {
    let vectors = |receipt: &str| {
        format!(
            r#"{{"cases":[{{"name":"case one","request":{{"receipt":"{receipt}","currency":"USD","external_store_id":"e",
            "now":"2024-01-01T12:00:00Z"}},"expect":{{"accepted":{{"currency":"USD"}}}}}}]}}"#
        )
    };
    // As the compiler built it: no section yet.
    let plain = component("hostile-adapter");
    let facts = |vectors: String| PackFacts {
        version: Some("1.2.3".into()),
        vectors: vec![vectors],
        ..PackFacts::default()
    };
    let engine = engine();
    let good = pack(&plain, &facts(vectors("fine"))).expect("packed");
    engine
        .load("hostile", good.clone())
        .await
        .expect("its vector is met");
    let bad = pack(&plain, &facts(vectors("reason:no"))).expect("packed");
    let refusal = engine
        .load("hostile", bad)
        .await
        .expect_err("its vector is not met");
    assert!(
        refusal.stage == Stage::Conform && refusal.cause.contains("case one"),
        "{refusal}"
    );
    assert!(
        ask(&engine, "hostile", "fine").await.result.is_ok(),
        "the good one serves on"
    );
    assert!(pack(&good, &PackFacts::default()).is_err(), "packed twice");
    assert!(pack(&plain, &facts("{}".into())).is_err(), "no cases");
    assert!(pack(b"nonsense", &PackFacts::default()).is_err());
}

#[tokio::test]
async fn costs_are_measured() {
    let engine = engine_with("etsy").await;
    let report = engine
        .bench(component("etsy"), None)
        .await
        .expect("figures");
    eprintln!("{report:?}");
    assert!(
        report.fuel.least > 0
            && report.fuel.least <= report.fuel.median
            && report.fuel.median <= report.fuel.most
    );
    assert!(report.peak_memory_bytes > 0 && report.peak_memory_bytes <= report.limits.memory_bytes);
    let again = engine
        .bench(component("etsy"), None)
        .await
        .expect("figures");
    assert_eq!(report.fuel, again.fuel, "the same work every time");
}
