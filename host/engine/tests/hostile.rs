//! Hostile guests: each misdeed ends in its typed fault, within its time, and the next call is served.

mod support;

use std::time::{Duration, Instant};

use support::{ask, engine_with, event, shape};
use wharf_domain::Answer;
use wharf_engine::{Blame, Fault, Stage};

#[tokio::test]
async fn every_misdeed_of_an_adapter_is_told_apart_and_contained() {
    let engine = engine_with("hostile-adapter").await;
    let broken = |fault: &Fault| matches!(fault, Fault::ContractBroken(_));
    let trapped = |fault: &Fault| matches!(fault, Fault::Trapped(_));
    type Expected<'a> = &'a dyn Fn(&Fault) -> bool;
    let cases: &[(&str, Expected<'_>)] = &[
        ("spin", &|fault| *fault == Fault::OutOfCpu),
        ("spin-in-host-calls", &|fault| *fault == Fault::OutOfCpu),
        ("sleep-in-host-call", &|fault| *fault == Fault::OutOfTime),
        ("trap", &trapped),
        (
            "panic",
            &|fault| matches!(fault, Fault::Trapped(why) if why.contains("a hostile guest panics")),
        ),
        (
            "exit",
            &|fault| matches!(fault, Fault::Trapped(why) if why.contains("exited with status 0")),
        ),
        ("recurse", &|fault| {
            *fault == Fault::OutOfStack || trapped(fault)
        }),
        ("alloc", &|fault| *fault == Fault::OutOfMemory),
        ("alloc-in-pieces", &|fault| *fault == Fault::OutOfMemory),
        ("leak-handles", &trapped),
        ("giant-output", &|fault| *fault == Fault::OutputTooLarge),
        ("giant-reason", &|fault| *fault == Fault::OutputTooLarge),
        ("long-id", &broken),
        ("nul-id", &broken),
        ("broken-text", &|fault| broken(fault) || trapped(fault)),
        ("id:", &broken),
        ("amount:-1.00", &broken),
        ("amount:1e3", &broken),
        ("amount:1.0000001", &broken),
        ("currency:usd", &broken),
        ("currency:EU", &broken),
        ("time:yesterday", &broken),
        ("time:-009999-01-01T00:00:00Z", &broken),
    ];
    for (receipt, expected) in cases {
        let called = ask(&engine, "hostile", receipt).await;
        let fault = called.result.expect_err(receipt);
        assert!(expected(&fault), "{receipt}: {fault:?}");
        assert_eq!(fault.blame(), Blame::Plugin, "{receipt}");
        assert!(
            matches!(fault.into_answer(), Answer::Faulted(_)),
            "{receipt}"
        );
        // Twice, so that the plugin is not taken for one that always fails.
        for _ in 0..2 {
            let next = ask(&engine, "hostile", "well-behaved").await;
            assert!(
                matches!(next.result, Ok(Answer::Accepted(_))),
                "after {receipt}: {next:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_a_guest_may_say_of_its_marketplace_is_an_answer() {
    let engine = engine_with("hostile-adapter").await;
    for (receipt, expected) in [
        ("fault:7", Answer::RateLimited(Some(Duration::from_secs(7)))),
        ("fault:", Answer::RateLimited(None)),
        (
            "fault:4294967295",
            Answer::RateLimited(Some(Duration::from_secs(24 * 3_600))),
        ),
        (
            "fault:unauthorized",
            Answer::Unavailable("unauthorized: credentials refused".into()),
        ),
        (
            "fault:unavailable",
            Answer::Unavailable("unavailable: down".into()),
        ),
        (
            "fault:misconfigured",
            Answer::Unavailable("misconfigured: no base_url".into()),
        ),
        ("reason:a\nb", Answer::Refused("a b".into())),
        ("config:granted", Answer::Refused("not granted".into())),
        ("config:DATABASE_URL", Answer::Refused("not granted".into())),
        ("look-around", Answer::Refused(String::new())),
        ("count-calls", Answer::Refused("1".into())),
        ("count-calls", Answer::Refused("1".into())),
    ] {
        assert_eq!(
            ask(&engine, "hostile", receipt).await.result,
            Ok(expected),
            "{receipt}"
        );
    }
}

#[tokio::test]
async fn floods_are_cut_and_the_answer_counts() {
    let engine = engine_with("hostile-adapter").await;
    // A line of 8 MiB is just what may cross the border at once, and far more than may be logged.
    for receipt in ["log-flood", "log-giant", "output-flood"] {
        let called = ask(&engine, "hostile", receipt).await;
        assert!(
            matches!(
                called.result,
                Ok(Answer::Accepted(_)) | Err(Fault::OutOfCpu)
            ),
            "{receipt}: {called:?}"
        );
    }
}

#[tokio::test]
async fn every_misdeed_of_a_shaper_is_told_apart_and_contained() {
    let engine = engine_with("hostile-shaper").await;
    let broken = |fault: &Fault| matches!(fault, Fault::ContractBroken(_));
    let trapped = |fault: &Fault| matches!(fault, Fault::Trapped(_));
    type Expected<'a> = &'a dyn Fn(&Fault) -> bool;
    let cases: &[(&str, Expected<'_>)] = &[
        ("spin", &|fault| *fault == Fault::OutOfCpu),
        ("spin-in-host-calls", &|fault| {
            *fault == Fault::OutOfCpu || *fault == Fault::OutOfTime
        }),
        ("trap", &trapped),
        ("panic", &trapped),
        ("exit", &trapped),
        ("recurse", &|fault| {
            *fault == Fault::OutOfStack || trapped(fault)
        }),
        ("alloc", &|fault| {
            *fault == Fault::OutOfMemory || *fault == Fault::OutOfCpu
        }),
        ("giant-output", &|fault| *fault == Fault::OutputTooLarge),
        ("many-headers", &broken),
        ("header-injection", &broken),
        ("broken-text", &|fault| broken(fault) || trapped(fault)),
        ("content-type:", &broken),
        ("content-type:text/plain\r\nx-evil: 1", &broken),
        ("header:webhook-signature=v1,forged", &broken),
        ("header:content-length=0", &broken),
    ];
    for (organization, expected) in cases {
        let fault = shape(&engine, "hostile", organization)
            .await
            .result
            .expect_err(organization);
        assert!(expected(&fault), "{organization}: {fault:?}");
        for _ in 0..2 {
            assert!(
                shape(&engine, "hostile", "fine").await.result.is_ok(),
                "after {organization}"
            );
        }
    }
    let refused = shape(&engine, "hostile", "error:not this one").await.result;
    assert_eq!(refused, Err(Fault::Refused("not this one".into())));
    let too_large = engine
        .shape("hostile", &event("fine", &"x".repeat(1024 * 1024)))
        .await
        .result;
    assert!(
        matches!(too_large, Err(Fault::InputTooLarge { .. })),
        "{too_large:?}"
    );
}

#[tokio::test]
async fn spinning_guests_end_in_time_while_a_neighbour_is_served() {
    let engine = engine_with("hostile-adapter").await;
    engine
        .load("etsy", support::component("etsy"))
        .await
        .expect("a good adapter");
    let spinning: Vec<_> = (0..4)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { ask(&engine, "hostile", "spin").await.result })
        })
        .collect();
    let started = Instant::now();
    let mut served = 0;
    while spinning.iter().any(|task| !task.is_finished()) {
        assert!(ask(&engine, "etsy", "order-101").await.result.is_ok());
        served += 1;
    }
    for task in spinning {
        assert_eq!(task.await.expect("no panic"), Err(Fault::OutOfCpu));
    }
    assert!(served > 0, "the neighbour waited for the spinning guests");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn more_calls_than_may_wait_are_refused_and_burn_nothing() {
    let mut settings = support::settings();
    settings.max_in_flight = 8;
    let engine = wharf_engine::Engine::start(settings).expect("an engine");
    engine
        .load("hostile", support::component("hostile-adapter"))
        .await
        .expect("a component");
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { ask(&engine, "hostile", "sleep-in-host-call").await })
        })
        .collect();
    let mut overloaded = 0;
    for call in calls {
        let called = call.await.expect("no panic");
        match called.result {
            Err(Fault::Overloaded) => {
                assert_eq!(called.digest, None, "nobody was asked");
                overloaded += 1;
            }
            other => assert_eq!(other, Err(Fault::OutOfTime)),
        }
    }
    assert_eq!(
        overloaded, 98,
        "two ran, the others waited in vain or not at all"
    );
    assert!(ask(&engine, "hostile", "fine").await.result.is_ok());
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_gives_its_slot_back() {
    let mut settings = support::settings();
    settings.max_in_flight = 2;
    settings.adapter_limits.wall = Duration::from_secs(60);
    let engine = wharf_engine::Engine::start(settings).expect("an engine");
    engine
        .load("hostile", support::component("hostile-adapter"))
        .await
        .expect("a component");
    for _ in 0..40 {
        let dropped = tokio::time::timeout(
            Duration::from_millis(5),
            ask(&engine, "hostile", "sleep-in-host-call"),
        );
        assert!(dropped.await.is_err());
    }
    assert!(ask(&engine, "hostile", "fine").await.result.is_ok());
}

#[tokio::test]
async fn files_and_sockets_are_refused_before_anything_is_compiled() {
    let engine = support::engine();
    for (name, import) in [
        ("reads-files", "wasi:filesystem"),
        ("opens-sockets", "wasi:sockets"),
    ] {
        let refusal = engine
            .load(name, support::component(name))
            .await
            .expect_err(name);
        assert_eq!(refusal.stage, Stage::Verify);
        assert!(
            refusal.cause.contains(import) && refusal.offer.contains("no sockets"),
            "{refusal}"
        );
    }
}

/// Eighteen calls that each may have 64 MiB hold no more than all guests may have together, and the others fail by the
/// host's fault: nothing counts against the plugin.
#[tokio::test]
async fn greedy_calls_share_one_total() {
    let mut settings = support::settings();
    settings.memory_total_bytes = 128 * 1024 * 1024;
    settings.adapter_limits.cpu = Duration::from_secs(10);
    let engine = wharf_engine::Engine::start(settings).expect("an engine");
    engine
        .load("hostile", support::component("hostile-adapter"))
        .await
        .expect("a component");
    let calls: Vec<_> = (0..18)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { ask(&engine, "hostile", "hoard").await.result })
        })
        .collect();
    let (mut held, mut refused) = (0, 0);
    for call in calls {
        match call.await.expect("no panic") {
            Err(Fault::OutOfTime) => held += 1,
            Err(fault @ Fault::Overloaded) => {
                assert_eq!(fault.blame(), Blame::Host);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((held, refused), (2, 16), "two times 48 MiB fit into 128");
    let counters = &engine.plugins()[0].counters;
    assert_eq!(counters.plugin_faults, held, "{counters:?}");
    assert!(
        ask(&engine, "hostile", "fine").await.result.is_ok(),
        "it was given back"
    );
}

#[tokio::test]
async fn a_trial_that_met_our_own_want_of_memory_is_tried_again() {
    let mut settings = support::settings();
    settings.memory_total_bytes = 64 * 1024;
    let engine = wharf_engine::Engine::start(settings).expect("an engine");
    let refusal = engine
        .load("etsy", support::component("etsy"))
        .await
        .expect_err("no memory");
    assert!(refusal.passing, "{refusal}");
}
