//! The life of revisions on a running engine: swaps, rollback, quarantine, the breaker, and hosts that share a folder.
#![allow(clippy::disallowed_methods, reason = "test code")]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use support::{ask, component, until};
use wharf_domain::Answer;
use wharf_engine::{
    Digest, Engine, EngineSettings, Fault, OperationError, PluginState, RevisionState, Transition,
};

/// The same code under another digest: custom sections say nothing to the machine.
fn revision(name: &str, number: u8) -> Vec<u8> {
    let mut bytes = component(name);
    bytes.extend_from_slice(&[0, 3, 1, b'n', number]);
    bytes
}

fn states(transitions: &[Transition], digest: Digest) -> Vec<RevisionState> {
    transitions
        .iter()
        .filter(|step| step.digest == Some(digest))
        .map(|step| step.to)
        .collect()
}

#[tokio::test]
async fn revisions_come_serve_and_go_back() {
    let engine = support::engine();
    let mut transitions = engine.transitions().expect("the first listener");
    let digests: Vec<Digest> = {
        let mut digests = Vec::new();
        for number in 1..=7 {
            digests.push(
                engine
                    .load("etsy", revision("etsy", number))
                    .await
                    .expect("a good revision"),
            );
        }
        digests
    };
    assert_eq!(
        ask(&engine, "etsy", "order-101").await.digest,
        Some(digests[6])
    );
    let report = &engine.plugins()[0];
    let kept: Vec<Digest> = report
        .revisions
        .iter()
        .map(|revision| revision.digest)
        .collect();
    assert_eq!(
        kept,
        [6, 5, 4, 3, 2, 1].map(|n| digests[n]),
        "the active one and five more"
    );

    let started = Instant::now();
    assert_eq!(
        engine
            .rollback("etsy", "operator")
            .await
            .expect("one before"),
        digests[5]
    );
    let took = started.elapsed();
    eprintln!("a rollback took {took:?}");
    assert!(took < Duration::from_millis(50), "{took:?}");
    assert_eq!(
        ask(&engine, "etsy", "order-101").await.digest,
        Some(digests[5])
    );
    engine
        .activate("etsy", digests[3], "operator")
        .await
        .expect("a retained revision");
    assert_eq!(
        ask(&engine, "etsy", "order-101").await.digest,
        Some(digests[3])
    );

    assert!(matches!(
        engine.rollback("ebay", "operator").await,
        Err(OperationError::NoSuchPlugin)
    ));
    assert!(matches!(
        engine.activate("etsy", digests[0], "operator").await,
        Err(OperationError::NoSuchRevision)
    ));

    let mut told = Vec::new();
    until("the last one drains", || {
        while let Ok(step) = transitions.try_recv() {
            told.push(step);
        }
        states(&told, digests[5]).ends_with(&[RevisionState::Retained])
    })
    .await;
    use RevisionState::{Active, Compiled, Conformant, Draining, Retained, Staged, Verified};
    let life = states(&told, digests[6]);
    assert_eq!(
        life,
        [
            Staged, Verified, Compiled, Conformant, Active, Draining, Retained
        ]
    );
    assert!(
        told.iter()
            .any(|step| step.actor == "operator" && step.to == Active)
    );
}

#[tokio::test]
async fn an_operator_switches_off_and_on() {
    let engine = support::engine_with("etsy").await;
    engine
        .disable("etsy", "the marketplace moves", "operator")
        .await
        .expect("a plugin");
    let called = ask(&engine, "etsy", "order-101").await;
    let Err(fault @ Fault::OutOfService(_)) = called.result else {
        panic!("{called:?}")
    };
    assert_eq!(called.digest, None);
    assert!(
        matches!(fault.into_answer(), Answer::Deferred { reason, .. } if reason.contains("the marketplace moves"))
    );
    assert!(engine.serves("etsy"), "its name stays known");
    assert!(matches!(
        engine.plugins()[0].state,
        PluginState::OutOfService { .. }
    ));
    engine.enable("etsy", "operator").await.expect("a plugin");
    assert!(ask(&engine, "etsy", "order-101").await.result.is_ok());
}

#[tokio::test]
async fn quarantine_rolls_back_and_release_lets_it_serve_again() {
    let engine = support::engine();
    let first = engine
        .load("etsy", revision("etsy", 1))
        .await
        .expect("good");
    let second = engine
        .load("etsy", revision("etsy", 2))
        .await
        .expect("good");
    engine
        .quarantine("etsy", second, "it is odd", "operator")
        .await
        .expect("a revision");
    assert_eq!(ask(&engine, "etsy", "order-101").await.digest, Some(first));
    let again = engine
        .load("etsy", revision("etsy", 2))
        .await
        .expect_err("it is quarantined");
    assert!(again.cause.contains("it is odd"), "{again}");
    assert!(matches!(
        engine.activate("etsy", second, "operator").await,
        Err(OperationError::Quarantined(_))
    ));
    engine
        .quarantine("etsy", first, "odd as well", "operator")
        .await
        .expect("a revision");
    let deferred = ask(&engine, "etsy", "order-101").await.result;
    assert!(
        matches!(deferred, Err(Fault::OutOfService(_))),
        "nothing is left: {deferred:?}"
    );
    engine
        .release("etsy", second, "operator")
        .await
        .expect("it was quarantined");
    engine
        .activate("etsy", second, "operator")
        .await
        .expect("it is free");
    assert_eq!(ask(&engine, "etsy", "order-101").await.digest, Some(second));
}

#[tokio::test]
async fn a_young_revision_that_fails_is_rolled_back_by_itself() {
    let engine = support::engine();
    let good = engine
        .load("plugin", revision("hostile-adapter", 1))
        .await
        .expect("it loads");
    let bad = engine
        .load("plugin", revision("hostile-adapter", 2))
        .await
        .expect("it loads");
    // Different receipts: what one receipt does to a plugin counts once.
    for number in 1..=5 {
        let called = ask(&engine, "hostile", &format!("amount:-{number}")).await;
        assert!(
            matches!(called.result, Err(Fault::ContractBroken(_))),
            "{called:?}"
        );
    }
    until("the one before serves", || {
        engine.plugins()[0].digest == Some(good)
    })
    .await;
    assert_eq!(ask(&engine, "hostile", "fine").await.digest, Some(good));
    let report = &engine.plugins()[0];
    let quarantined = report
        .revisions
        .iter()
        .find(|revision| revision.digest == bad)
        .expect("it is listed");
    assert_eq!(quarantined.state, RevisionState::Quarantined);
    assert!(
        quarantined
            .reason
            .as_ref()
            .is_some_and(|why| why.contains("amount"))
    );
    // Without another one before, only the breaker is left.
    for number in 1..=5 {
        drop(ask(&engine, "hostile", &format!("amount:-{number}")).await);
    }
    let deferred = ask(&engine, "hostile", "fine").await;
    assert!(
        matches!(deferred.result, Err(Fault::OutOfService(_))),
        "{deferred:?}"
    );
    assert_eq!(deferred.digest, None);
}

#[tokio::test]
async fn upstreams_faults_never_count() {
    let engine = support::engine_with("hostile-adapter").await;
    for _ in 0..40 {
        drop(ask(&engine, "hostile", "fault:unavailable").await);
    }
    // The account for which the marketplace fails waits; the plugin serves on.
    assert!(matches!(
        ask(&engine, "hostile", "fine").await.result,
        Err(Fault::UpstreamPaused(_))
    ));
    let other = support::ask_for(&engine, "hostile", "other", "fine").await;
    assert!(matches!(other.result, Ok(Answer::Accepted(_))), "{other:?}");
    let report = &engine.plugins()[0];
    assert_eq!(report.state, PluginState::Active);
    assert_eq!(report.counters.plugin_faults, 0);
    assert_eq!(
        (report.pauses.accounts, report.pauses.organizations),
        (1, 0)
    );
}

fn start(folder: &Path, state: &Path) -> Engine {
    support::started(EngineSettings::new(folder, state))
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_share_a_folder_agree_and_a_restart_remembers() {
    let (folder, state) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    fs::write(folder.path().join("etsy.wasm"), revision("etsy", 1)).expect("written");
    let one = start(folder.path(), state.path());
    let other = start(folder.path(), state.path());
    let first = one.plugins()[0].digest.expect("it serves");
    assert_eq!(other.plugins()[0].digest, Some(first));

    let second = one
        .upload("etsy", revision("etsy", 2), None, "operator")
        .await
        .expect("good");
    until("the other host follows", || {
        other.plugins()[0].digest == Some(second)
    })
    .await;
    other
        .rollback("etsy", "operator")
        .await
        .expect("one before");
    until("the first host follows", || {
        one.plugins()[0].digest == Some(first)
    })
    .await;
    other
        .disable("etsy", "for now", "operator")
        .await
        .expect("a plugin");
    until("the first host defers", || {
        matches!(one.plugins()[0].state, PluginState::OutOfService { .. })
    })
    .await;
    other.enable("etsy", "operator").await.expect("a plugin");
    one.activate("etsy", second, "operator")
        .await
        .expect("retained");
    drop((one, other));

    // The folder still holds the first; what was decided since stays decided.
    let started = Instant::now();
    let again = start(folder.path(), state.path());
    eprintln!("a warm start took {:?}", started.elapsed());
    assert_eq!(again.plugins()[0].digest, Some(second));
    assert!(
        again
            .transitions()
            .expect("the first listener")
            .try_recv()
            .is_err(),
        "nothing new happened"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_beside_the_file_are_part_of_the_revision() {
    let (folder, state) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    fs::write(
        folder.path().join("hostile.wasm"),
        component("hostile-adapter"),
    )
    .expect("written");
    let engine = start(folder.path(), state.path());
    assert_eq!(
        ask(&engine, "hostile", "config:granted").await.result,
        Ok(Answer::Refused("not granted".into()))
    );
    fs::write(
        folder.path().join("hostile.toml"),
        "[config]\ngranted = 'yes'\nother = 'no'",
    )
    .expect("written");
    let before = engine.plugins()[0].digest;
    until("the grants are taken up", || {
        engine.plugins()[0].digest != before
    })
    .await;
    assert_eq!(
        ask(&engine, "hostile", "config:granted").await.result,
        Ok(Answer::Refused("yes".into()))
    );
    let unlisted = ask(&engine, "hostile", "config:other").await.result;
    assert_eq!(
        unlisted,
        Ok(Answer::Refused("not granted".into())),
        "only keys of the manifest"
    );
    fs::write(folder.path().join("hostile.toml"), "nonsense").expect("written");
    until("bad grants are refused", || {
        matches!(engine.plugins()[0].state, PluginState::Refused { .. })
    })
    .await;
    assert_eq!(
        ask(&engine, "hostile", "config:granted").await.result,
        Ok(Answer::Refused("yes".into()))
    );
}
