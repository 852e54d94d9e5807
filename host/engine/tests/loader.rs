//! The loader against bytes that nobody meant to be a component: it refuses, it never panics, and the host lives on.
#![allow(clippy::disallowed_methods, reason = "test code")]

mod support;

use proptest::prelude::*;
use support::{ask, component};
use wharf_engine::{Engine, Stage, inspect};

/// Compiled from the component's own bytes: a name of the contract's version that this host does not know.
fn of_version(version: &str) -> Vec<u8> {
    assert_eq!(version.len(), 5);
    let mut bytes = component("etsy");
    let name = b"wharf:plugin/adapter@0.1.0";
    let found: Vec<usize> = bytes
        .windows(name.len())
        .enumerate()
        .filter(|(_, window)| window == name)
        .map(|(at, _)| at)
        .collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at + name.len() - 5..at + name.len()].copy_from_slice(version.as_bytes());
    }
    bytes
}

#[tokio::test]
async fn an_unknown_version_is_refused_with_what_is_supported() {
    let engine = support::engine();
    for version in ["0.2.0", "1.0.0", "9.9.9", "0.0.1"] {
        let refusal = engine
            .load("etsy", of_version(version))
            .await
            .expect_err(version);
        assert_eq!(refusal.stage, Stage::Verify);
        assert!(
            refusal.cause.contains(version) && refusal.offer.contains("0.1"),
            "{refusal}"
        );
    }
    engine
        .load("etsy", of_version("0.1.9"))
        .await
        .expect("a later patch of a known version loads");
    assert!(ask(&engine, "etsy", "order-101").await.result.is_ok());
}

#[tokio::test]
async fn what_is_no_component_is_named() {
    let engine = support::engine();
    let module = b"\0asm\x01\0\0\0".to_vec();
    let empty_component = b"\0asm\x0d\0\x01\0".to_vec();
    for (bytes, cause) in [
        (module, "core module"),
        (empty_component, "neither an adapter nor a shaper"),
        (vec![], "not a valid WebAssembly component"),
        (vec![0; 33 * 1024 * 1024], "too many"),
    ] {
        let refusal = engine.load("x", bytes).await.expect_err(cause);
        assert!(
            refusal.stage == Stage::Verify && refusal.cause.contains(cause),
            "{refusal}"
        );
    }
}

/// Compiled code runs when it is loaded, so it is taken from this host's own cache alone, never from anybody who sends it.
#[tokio::test]
async fn compiled_code_is_no_plugin() {
    let state = tempfile::tempdir().expect("a folder");
    let mut settings = support::settings();
    settings.state_dir = Some(state.path().into());
    let engine = Engine::start(settings).expect("an engine");
    engine
        .load("etsy", component("etsy"))
        .await
        .expect("a good adapter");
    let kept = std::fs::read_dir(state.path().join("compiled"))
        .expect("a folder")
        .next()
        .expect("a file");
    let kept = std::fs::read(kept.expect("an entry").path()).expect("compiled code");
    // As it lies there, and as the runtime itself would take it, without the code before it.
    for compiled in [&kept[..], &kept[32..]] {
        let refusal = engine
            .load("etsy", compiled)
            .await
            .expect_err("it was sent in");
        assert_eq!(refusal.stage, Stage::Verify, "{refusal}");
    }
    assert!(ask(&engine, "etsy", "order-101").await.result.is_ok());
}

#[tokio::test]
async fn compiling_has_its_limit() {
    let mut settings = support::settings();
    settings.compile_limit = std::time::Duration::from_micros(1);
    let engine = Engine::start(settings).expect("an engine");
    let refusal = engine
        .load("etsy", component("etsy"))
        .await
        .expect_err("it takes longer");
    assert!(
        refusal.stage == Stage::Compile && refusal.fix.contains("PLUGIN_COMPILE_LIMIT"),
        "{refusal}"
    );
}

#[tokio::test]
async fn contract_checks_have_a_limit_together() {
    let mut settings = support::settings();
    settings.conformance_limit = std::time::Duration::from_millis(500);
    let engine = Engine::start(settings).expect("an engine");
    let slow = support::stamped(component("hostile-adapter"), "always nap");
    let refusal = engine
        .load("slow", slow)
        .await
        .expect_err("it takes longer");
    assert!(
        refusal.stage == Stage::Conform && refusal.fix.contains("PLUGIN_CONFORMANCE_LIMIT"),
        "{refusal}"
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(tail in prop::collection::vec(any::<u8>(), 0..2_000), as_component in any::<bool>()) {
        let mut bytes = if as_component { b"\0asm\x0d\0\x01\0".to_vec() } else { Vec::new() };
        bytes.extend(tail);
        prop_assert!(inspect(&bytes).is_err());
    }

    #[test]
    fn damaged_components_never_hurt_the_host(
        cut in prop::option::of(0.0..1.0_f64),
        flips in prop::collection::vec((0.0..1.0_f64, 0..8_u8), 0..4),
    ) {
        let mut bytes = component("etsy");
        let at = |share: f64, length: usize| ((length as f64) * share) as usize;
        for (place, bit) in flips {
            let index = at(place, bytes.len());
            bytes[index] ^= 1 << bit;
        }
        if let Some(share) = cut {
            bytes.truncate(at(share, bytes.len()));
        }
        runtime().block_on(async {
            let engine: &Engine = shared();
            // Damage in a text or a constant may leave a valid component; it may even serve. It must not panic.
            let _ = engine.load("damaged", bytes).await;
            let _ = ask(engine, "etsy", "order-101").await;
        });
    }
}

fn shared() -> &'static Engine {
    static ENGINE: std::sync::OnceLock<Engine> = std::sync::OnceLock::new();
    ENGINE.get_or_init(support::engine)
}
