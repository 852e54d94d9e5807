//! Slow plugins and poisonous tenants beside innocent ones: who waits, and who does not.
#![allow(clippy::disallowed_methods, reason = "test code")]

mod support;

use std::time::Duration;

use support::{ask_for, component, shape, stamped};
use tokio::task::JoinSet;
use wharf_domain::Answer;
use wharf_engine::{Engine, Fault};

const SLOW_PLUGINS: usize = 4;
/// Calls of each of them: more than it may have in flight, and fewer than may wait as well.
const CALLS: usize = 40;

/// Asks every slow plugin for several organizations until none of them gets another place.
async fn flood(engine: &Engine) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    for plugin in 0..SLOW_PLUGINS {
        let mut of_plugin = JoinSet::new();
        for call in 0..CALLS {
            let (engine, marketplace) = (engine.clone(), format!("slow{plugin}"));
            let organization = format!("org-{plugin}-{}", call % 8);
            of_plugin.spawn(async move {
                ask_for(&engine, &marketplace, &organization, "sleep-in-host-call").await
            });
        }
        let first = of_plugin.join_next().await.expect("a call");
        let first = first.expect("no panic").result;
        assert_eq!(first, Err(Fault::Overloaded), "it has all that it may have");
        calls.spawn(async move {
            of_plugin.join_all().await;
        });
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_plugins_leave_places_to_others() {
    let mut settings = support::settings();
    // They hold their places until the test ends.
    settings.adapter_limits.wall = Duration::from_secs(300);
    let engine = Engine::start(settings).expect("an engine");
    for number in 0..SLOW_PLUGINS {
        let name = format!("describe name:slow{number}");
        let slow = stamped(component("hostile-adapter"), &name);
        let loaded = engine.load(&format!("slow{number}"), slow).await;
        loaded.expect("a component");
    }
    for (name, file) in [("etsy", "etsy"), ("standard", "standard-payload")] {
        let loaded = engine.load(name, component(file)).await;
        loaded.expect("a component");
    }
    let _calls = flood(&engine).await;
    for number in 0..50 {
        let asked = ask_for(&engine, "etsy", "quiet", &format!("order-{number}-101")).await;
        assert!(matches!(asked.result, Ok(Answer::Accepted(_))), "{asked:?}");
        let shaped = shape(&engine, "standard", "quiet").await;
        assert!(shaped.result.is_ok(), "{shaped:?}");
    }
}

#[tokio::test]
async fn one_tenant_s_poison_does_not_stop_another() {
    let engine = support::engine_with("hostile-adapter").await;
    let good = async |organization, number| {
        let receipt = format!("good-{number}");
        let called = ask_for(&engine, "hostile", organization, &receipt).await;
        matches!(called.result, Ok(Answer::Accepted(_)))
    };
    assert!(good("b", 0).await);
    for number in 0..40 {
        drop(ask_for(&engine, "hostile", "a", &format!("amount:{number}e2")).await);
        assert!(
            good("b", number + 1).await,
            "after {number} poisoned receipts"
        );
    }
    let refused = ask_for(&engine, "hostile", "a", "good").await.result;
    assert!(
        matches!(refused, Err(Fault::OutOfService(_))),
        "{refused:?}"
    );
    let report = &engine.plugins()[0];
    assert_eq!(
        (report.pauses.organizations, report.pauses.accounts),
        (1, 0)
    );
    assert_eq!(
        report.counters.plugin_faults, 5,
        "the others were not called"
    );
}
