//! Killed with SIGKILL at any moment of an installation, a host finds the old revision or the new one, never neither.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{ask, component, until};
use wharf_engine::{Digest, Engine, EngineSettings};

/// Set for the child: the folder of its state.
const STATE: &str = "WHARF_TEST_CRASH_STATE";
const KILLS: u64 = 20;

fn revision(number: u8) -> Vec<u8> {
    let mut bytes = component("etsy");
    bytes.extend_from_slice(&[0, 3, 1, b'n', number]);
    bytes
}

fn start(state: &Path) -> Engine {
    let mut settings = EngineSettings::in_memory();
    settings.state_dir = Some(state.into());
    Engine::start(settings).expect("an engine")
}

/// The child: installs and rolls back without end. As a test of its own it has nothing to do.
#[tokio::test]
async fn child_installs_without_end() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let engine = start(Path::new(&state));
    loop {
        for number in 1..=8 {
            engine.load("etsy", revision(number)).await.expect("a good revision");
            engine.rollback("etsy", "child").await.expect("one before");
        }
    }
}

fn spawn(state: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", "child_installs_without_end"]).env(STATE, state);
    child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child")
}

#[tokio::test]
async fn a_host_that_is_killed_finds_the_old_revision_or_the_new() {
    let state = tempfile::tempdir().expect("a folder");
    {
        let engine = start(state.path());
        for number in 1..=8 {
            engine.load("etsy", revision(number)).await.expect("compiled once, so that the children are quick");
        }
    }
    let known: Vec<Digest> = (1..=8).map(|number| Digest::of(&revision(number))).collect();
    let life = state.path().join("plugins/etsy.json");
    for kill in 0..KILLS {
        let before = std::fs::metadata(&life).and_then(|file| file.modified()).expect("a life");
        let mut child = spawn(state.path());
        until("the child works", || {
            std::fs::metadata(&life).and_then(|file| file.modified()).is_ok_and(|now| now != before)
        })
        .await;
        // At another moment of its work each time.
        tokio::time::sleep(Duration::from_micros(kill * 937)).await;
        child.kill().expect("killed");
        child.wait().expect("gone");

        let engine = start(state.path());
        let called = ask(&engine, "etsy", "order-101").await;
        assert!(called.result.is_ok(), "after kill {kill}: {called:?}");
        assert!(called.digest.is_some_and(|digest| known.contains(&digest)), "after kill {kill}");
        engine.rollback("etsy", "test").await.expect("a retained revision is whole, too");
        assert!(ask(&engine, "etsy", "order-101").await.result.is_ok(), "after kill {kill}");
    }
}
