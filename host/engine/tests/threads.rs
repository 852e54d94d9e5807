//! The threads that guests run on: a short call its caller's, one that takes long the engine's own.

mod support;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join;
use support::{ask, component, engine_with, until};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wharf_engine::{Engine, Fault};

/// The names of the threads on which guests wrote their log lines.
static WROTE_ON: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "plugin"
    }

    fn event(&self, _: &Event<'_>) {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        wrote_on().push(name);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn wrote_on() -> std::sync::MutexGuard<'static, Vec<String>> {
    WROTE_ON.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the guest write, and returns the thread of its first line.
async fn thread_of(engine: &Engine, receipt: &str) -> String {
    wrote_on().clear();
    drop(ask(engine, "hostile", receipt).await);
    wrote_on().first().expect("a line").clone()
}

#[tokio::test]
async fn calls_that_took_long_keep_those_after_them_off_their_callers_threads() {
    // Of all threads: the guests' lines are written on their own.
    tracing::subscriber::set_global_default(Listener).expect("the only one here");
    let here = std::thread::current().name().unwrap_or_default().to_owned();
    for long in ["spin", "nap"] {
        let engine = engine_with("hostile-adapter").await;
        assert_eq!(thread_of(&engine, "log-line").await, here, "before {long}");
        assert_eq!(thread_of(&engine, "log-line").await, here, "it was short");
        drop(ask(&engine, "hostile", long).await);
        let after = thread_of(&engine, "log-line").await;
        assert_eq!(after, "wharf-guest", "after {long}");
    }
}

#[tokio::test]
async fn a_guest_that_spins_gives_its_caller_s_thread_back() {
    let engine = engine_with("hostile-adapter").await;
    let faults = || engine.plugins()[0].counters.plugin_faults;
    let mut spins = Box::pin(ask(&engine, "hostile", "spin"));
    assert!(futures::poll!(&mut spins).is_pending());
    assert_eq!(faults(), 0, "it was moved before its time was over");
    // Nobody polls it here any more.
    until("it ends on other threads", || faults() == 1).await;
    assert_eq!(spins.await.result, Err(Fault::OutOfCpu));
}

#[tokio::test]
async fn a_guest_ends_with_its_caller_wherever_it_is() {
    let mut settings = support::settings();
    settings.max_in_flight = 4;
    settings.adapter_limits.wall = Duration::from_secs(300);
    let engine = Engine::start(settings).expect("an engine");
    let loaded = engine.load("hostile", component("hostile-adapter")).await;
    loaded.expect("a component");
    // The first is moved, those after it begin apart. There is one place.
    for _ in 0..3 {
        let mut sleeps = Box::pin(ask(&engine, "hostile", "sleep-in-host-call"));
        assert!(futures::poll!(&mut sleeps).is_pending());
        drop(sleeps);
        let after = ask(&engine, "hostile", "fine").await;
        assert!(after.result.is_ok(), "the place is free again: {after:?}");
    }
}

/// Timers and waits are the guests' runtime's, also those of a call that began on a thread without one.
#[test]
fn a_caller_needs_no_runtime() {
    let mut settings = support::settings();
    settings.max_in_flight = 4;
    let engine = Engine::start(settings).expect("an engine");
    block_on(async {
        let loaded = engine.load("hostile", component("hostile-adapter")).await;
        loaded.expect("a component");
        let (waits, finds_no_place) = join(
            ask(&engine, "hostile", "sleep-in-host-call"),
            ask(&engine, "hostile", "fine"),
        )
        .await;
        assert_eq!(waits.result, Err(Fault::OutOfTime));
        assert_eq!(finds_no_place.result, Err(Fault::Overloaded));
    });
}
