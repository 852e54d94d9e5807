//! Shared parts of the engine's tests: the paths of built components, and short ways to ask them.
#![allow(clippy::disallowed_methods, reason = "test code")]
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod site;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wharf_domain::{
    Answer, Currency, Event, EventId, ExternalStoreId, OrganizationId, Receipt, StoreId, Time,
    uuid_v4,
};
use wharf_engine::{Called, Engine, EngineSettings, Message, ValidateRequest};

/// The bytes of a built component, by its file name without `.wasm`.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let from_env = std::env::var_os("WHARF_PLUGINS_DIR").map(PathBuf::from);
    let built = root.join("target/wasm32-wasip2/plugin");
    let mut folders = from_env.into_iter().chain([root.join("plugins"), built]);
    let names = [name.to_owned(), name.replace('-', "_")];
    folders
        .find_map(|folder| {
            names
                .iter()
                .find_map(|name| std::fs::read(folder.join(format!("{name}.wasm"))).ok())
        })
        .unwrap_or_else(|| {
            panic!("{name}.wasm is not built: run `cargo xtask plugins --guests` first")
        })
}

/// An engine without a folder whose budgets are short, so that tests of limits are.
pub(crate) fn engine() -> Engine {
    Engine::start(settings()).expect("an engine")
}

/// Starts an engine and waits until everything in its folder was read. The engine has threads of its own, so that a test
/// may block here.
pub(crate) fn started(settings: EngineSettings) -> Engine {
    let engine = Engine::start(settings).expect("an engine");
    futures::executor::block_on(engine.loaded());
    engine
}

pub(crate) fn settings() -> EngineSettings {
    let mut settings = EngineSettings::in_memory();
    settings.adapter_limits.cpu = Duration::from_millis(200);
    settings.adapter_limits.wall = Duration::from_secs(2);
    settings
}

/// An engine that has this one component.
pub(crate) async fn engine_with(name: &str) -> Engine {
    let engine = engine();
    if let Err(refusal) = engine.load(name, component(name)).await {
        panic!("{name}: {refusal}");
    }
    engine
}

pub(crate) const NOW: Time = Time::from_micros(1_704_110_400_123_456);

pub(crate) fn request(receipt: &str) -> ValidateRequest {
    ValidateRequest {
        receipt: Receipt::parse(receipt).expect("a receipt"),
        currency: Currency::parse("EUR").expect("a currency"),
        external_store_id: ExternalStoreId::parse("ext-100").expect("an id"),
        now: NOW,
        access_token: None,
        store_id: None,
        request_id: None,
    }
}

pub(crate) async fn ask(engine: &Engine, marketplace: &str, receipt: &str) -> Called<Answer> {
    ask_for(engine, marketplace, "org", receipt).await
}

pub(crate) async fn ask_for(
    engine: &Engine,
    marketplace: &str,
    organization: &str,
    receipt: &str,
) -> Called<Answer> {
    let organization = OrganizationId::parse(organization).expect("an organization");
    let request = request(receipt);
    engine.validate(marketplace, &organization, request).await
}

pub(crate) fn event(organization: &str, data: &str) -> Event {
    Event {
        id: EventId(uuid_v4([7; 16])),
        kind: "sync.completed".into(),
        at: NOW,
        organization_id: OrganizationId::parse(organization).expect("an organization"),
        store_id: StoreId(uuid_v4([9; 16])),
        data: data.into(),
    }
}

pub(crate) async fn shape(engine: &Engine, shaper: &str, organization: &str) -> Called<Message> {
    engine
        .shape(shaper, &event(organization, r#"{"a":1}"#))
        .await
}

/// Waits until `true`, and fails the test if it takes longer than any machine should need.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "waited in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A hostile guest that misbehaves at all times: `when what` is written over the place that it keeps for it.
pub(crate) fn stamped(mut component: Vec<u8>, stamp: &str) -> Vec<u8> {
    const MARK: &[u8] = b"wharf-stamp: ";
    let at = component
        .windows(MARK.len())
        .position(|bytes| bytes == MARK)
        .expect("a place for a stamp")
        + MARK.len()
        - 1;
    component[at..at + stamp.len()].copy_from_slice(stamp.as_bytes());
    component
}
