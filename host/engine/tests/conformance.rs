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

const CARELESS_GRANTS: &str = "origins = ['http://marketplace.test']\n";

/// `careless-adapter` with this one vector: a receipt, its exchanges and what is expected.
fn careless(receipt: &str, exchanges: &str, more: &str, expect: &str) -> Vec<u8> {
    let vectors = format!(
        r#"{{"cases":[{{"name":"the case","request":{{"receipt":"{receipt}","currency":"USD","external_store_id":"e",
        "now":"2024-01-01T12:00:00Z"}},"exchanges":[{exchanges}]{more},"expect":{expect}}}]}}"#
    );
    let facts = PackFacts {
        vectors: vec![vectors],
        ..PackFacts::default()
    };
    pack(&component("careless-adapter"), &facts).expect("packed")
}

/// The exchange about an order of this receipt, with this in its request beside.
fn order(receipt: &str, more: &str) -> String {
    format!(
        r#"{{"request":{{"method":"GET","url":"http://marketplace.test/orders/{receipt}"{more}}},
        "response":{{"status":200,"json":{{"amount":10.10}}}}}}"#
    )
}

const ACCEPTED: &str = r#"{"accepted":{"id":"order-16"}}"#;
const REJECTED: &str = r#"{"rejected":true}"#;

/// What a check says against the component.
async fn failures(bytes: Vec<u8>, check: ContractCheck) -> (Vec<String>, Option<usize>) {
    let report = engine().check(bytes, Some(CARELESS_GRANTS)).await;
    assert_eq!(report.refusal, None);
    let mut checks = report.conformance.checks.into_iter();
    let tried = checks
        .find(|tried| tried.check == check)
        .expect("the check");
    let failures = tried.failures.into_iter();
    (
        failures
            .map(|failure| format!("{}: {}", failure.case, failure.cause))
            .collect(),
        tried.asked,
    )
}

/// It is asked what its own vector accepts, so there is no way around the failing marketplace.
#[tokio::test]
async fn an_adapter_that_takes_failures_for_refusals_does_not_pass() {
    let one = careless("A-1", &order("A-1", ""), "", ACCEPTED);
    let (told, asked) = failures(one.clone(), ContractCheck::Upstream).await;
    assert_eq!(asked, Some(7));
    for case in [
        "429 at",
        "401 at",
        "500 at",
        "no sense",
        "no connection",
        "no answer in time",
    ] {
        // What makes no sense is not even read by this one, which accepts it.
        assert!(
            told.iter().any(|told| told.contains(case)),
            "{case}: {told:#?}"
        );
    }
    assert!(
        !told.iter().any(|told| told.contains("404 at")),
        "that is an unknown receipt: {told:#?}"
    );
    let refusal = support::engine()
        .upload("careless", one, Some(CARELESS_GRANTS), "test")
        .await
        .expect_err("a host refuses it, too");
    assert!(
        refusal.to_string().contains("429 at request 1"),
        "{refusal}"
    );

    // Each request in turn fails, the second one as well.
    let confirm = r#",{"request":{"method":"POST","url":"http://marketplace.test/orders/A-two/confirm",
        "json":{"receipt":"A-two"}},"response":{"status":200}}"#;
    let two = careless("A-two", &(order("A-two", "") + confirm), "", ACCEPTED);
    let (told, asked) = failures(two, ContractCheck::Upstream).await;
    assert_eq!(asked, Some(14));
    assert!(
        told.iter().any(|told| told.contains("500 at request 2")),
        "{told:#?}"
    );
}

#[tokio::test]
async fn an_adapter_that_never_asked_did_not_keep_the_check() {
    for quiet in [
        careless("B-1", "", "", REJECTED),
        component("careless-adapter"),
    ] {
        let (told, asked) = failures(quiet, ContractCheck::Upstream).await;
        assert_eq!((told.len(), asked), (1, Some(0)));
        assert!(told[0].contains("0 asked"), "{told:?}");
    }
}

#[tokio::test]
async fn a_vectors_exchanges_are_matched_and_used() {
    let accept = r#","headers":[["accept","application/json"]]"#;
    let good = order("A-1", accept);
    let other = r#","headers":[["accept","text/html"]]"#;
    let body = r#","json":{"receipt":"A-1"}"#;
    for (exchanges, expect, why) in [
        (good.clone(), ACCEPTED, ""),
        // The answer is the expected one, but the question is not.
        (
            order("A-2", ""),
            REJECTED,
            "expected GET http://marketplace.test/orders/A-2",
        ),
        (order("A-1", other), REJECTED, "no header accept: text/html"),
        (order("A-1", body), REJECTED, "its body is"),
        (
            String::new(),
            REJECTED,
            "request 1 is not written: GET http://marketplace.test/orders/A-1",
        ),
        (
            format!("{good},{good}"),
            ACCEPTED,
            "exchange 2 was not used",
        ),
    ] {
        let bytes = careless("A-1", &exchanges, "", expect);
        let (told, _) = failures(bytes, ContractCheck::Vectors).await;
        let said = told.join("\n");
        assert!(
            said.contains(why) && said.is_empty() == why.is_empty(),
            "{why}: {said}"
        );
    }
    for wrong in [
        r#"{"request":{"method":"GET","url":"/orders"},"response":{"status":200}}"#,
        r#"{"request":{"method":"GET","url":"http://a/"},"response":{}}"#,
        r#"{"request":{"method":"GET","url":"http://a/"},"response":{"status":200,"file":"a.json"}}"#,
        r#"{"request":{"method":"GET","url":"http://a/"},"response":{"status":200,"json":1,"body":"1"}}"#,
        r#"{"request":{"method":"GET","url":"http://a/"},"response":{"status":200},"respons":{}}"#,
    ] {
        let vectors = format!(
            r#"{{"cases":[{{"name":"c","request":{{"receipt":"A-1","currency":"USD","external_store_id":"e","now":
            "2024-01-01T12:00:00Z"}},"exchanges":[{wrong}],"expect":{REJECTED}}}]}}"#
        );
        let facts = PackFacts {
            vectors: vec![vectors],
            ..PackFacts::default()
        };
        assert!(
            pack(&component("careless-adapter"), &facts).is_err(),
            "{wrong}"
        );
    }
}

/// What an operator granted decides no vector: the same component passes everywhere, or nowhere.
#[tokio::test]
async fn a_vectors_configuration_is_its_own() {
    let granted =
        "origins = ['http://elsewhere.test']\n[config]\nbase_url = 'http://elsewhere.test'\n";
    let bytes = careless("A-1", &order("A-1", ""), "", ACCEPTED);
    let report = engine().check(bytes, Some(granted)).await;
    let vectors = report
        .conformance
        .checks
        .last()
        .expect("the check of vectors");
    assert_eq!(
        (vectors.cases, &vectors.failures),
        (1, &Vec::new()),
        "{report}"
    );
    let elsewhere = order("A-1", "").replace("marketplace.test", "elsewhere.test");
    let config = r#","config":{"base_url":"http://elsewhere.test"}"#;
    let bytes = careless("A-1", &elsewhere, config, ACCEPTED);
    assert_eq!(
        failures(bytes, ContractCheck::Vectors).await.0,
        Vec::<String>::new()
    );
}

/// An author has no secrets of the operator's, and needs none.
#[tokio::test]
async fn a_check_reads_no_secret() {
    let grants = HTTP_GRANTS.replace(
        "store = 'access-token'",
        "env = 'WHARF_PLUGIN_NOT_SET_HERE'",
    );
    let report = engine()
        .check(component("http-marketplace"), Some(&grants))
        .await;
    assert!(report.passed(), "{report}");
    let asked = report
        .conformance
        .checks
        .iter()
        .find_map(|check| check.asked);
    assert_eq!(asked, Some(7));
}
