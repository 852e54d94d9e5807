//! Killed with SIGKILL at every step of an installation, a host finds the old revision or the new one, never neither.
#![allow(clippy::disallowed_methods, reason = "test code")]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use support::{ask, component};
use wharf_domain::Answer;
use wharf_engine::{Digest, Engine, EngineSettings};

/// Set for the child: the folder of its state.
const STATE: &str = "WHARF_TEST_CRASH_STATE";
const GRANTS: &str = "[config]\ngranted = 'yes'";
/// The places where an installation can end: each file's making, filling and renaming, and each removal.
const PLACES: [&str; 4] = [
    "file.begun",
    "file.written",
    "file.renamed",
    "revision.forgotten",
];
/// The active revision and five older ones.
const KEPT: u8 = 6;

fn revision(number: u8) -> Vec<u8> {
    let mut bytes = component("hostile-adapter");
    bytes.extend_from_slice(&[0, 3, 1, b'n', number]);
    bytes
}

fn start(state: &Path) -> Engine {
    let mut settings = EngineSettings::in_memory();
    settings.state_dir = Some(state.into());
    support::started(settings)
}

/// The child: installs one revision, which pushes out the oldest, and rolls back. As a test of its own it has nothing to do.
#[tokio::test]
async fn child_installs() {
    let Some(state) = std::env::var_os(STATE) else {
        return;
    };
    let engine = start(Path::new(&state));
    engine
        .upload("hostile", revision(KEPT), Some(GRANTS), "child")
        .await
        .expect("a good revision");
    engine
        .rollback("hostile", "child")
        .await
        .expect("one before");
}

/// Runs the child until it dies at the Nth passage of a place, or to its end.
fn run_child(state: &Path, place: &str, passage: u32) -> ExitStatus {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child
        .args(["--exact", "child_installs"])
        .env(STATE, state)
        .env("WHARF_FAILPOINT", format!("{place}:{passage}"));
    child
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a child")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

/// Files that were begun and never came to their place.
fn unfinished(state: &Path) -> usize {
    let folders =
        ["plugins", "revisions"].map(|folder| fs::read_dir(state.join(folder)).expect("a folder"));
    let names = folders
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".tmp"))
        .count()
}

/// Starts the killed host again: one of the two serves, every retained revision is whole, and nothing is left behind.
async fn audit(state: &Path, digests: &[Digest], when: &str) {
    let engine = start(state);
    for step in 0..digests.len() {
        let called = ask(&engine, "hostile", "config:granted").await;
        assert_eq!(
            called.result,
            Ok(Answer::Refused("yes".into())),
            "{when}, rolled back {step} times"
        );
        assert!(
            called
                .digest
                .is_some_and(|digest| digests.contains(&digest)),
            "{when}"
        );
        if step == 0 {
            let old_or_new = [digests[digests.len() - 2], digests[digests.len() - 1]];
            assert!(
                called
                    .digest
                    .is_some_and(|digest| old_or_new.contains(&digest)),
                "{when}: {called:?}"
            );
        }
        engine
            .rollback("hostile", "test")
            .await
            .unwrap_or_else(|error| panic!("{when}: {error}"));
    }
    assert_eq!(unfinished(state), 0, "{when}");
}

#[tokio::test]
async fn a_host_that_is_killed_at_any_step_finds_the_old_revision_or_the_new() {
    let whole = tempfile::tempdir().expect("a folder");
    let mut digests = Vec::new();
    {
        let engine = start(whole.path());
        for number in 0..KEPT {
            let uploaded = engine
                .upload("hostile", revision(number), Some(GRANTS), "test")
                .await;
            digests.push(uploaded.expect("a good revision"));
        }
    }
    let new = {
        // In a folder of its own: the child is to compile it anew.
        let engine = support::engine();
        engine
            .upload("hostile", revision(KEPT), Some(GRANTS), "test")
            .await
            .expect("a good revision")
    };
    digests.push(new);
    let mut kills = Vec::new();
    for place in PLACES {
        for passage in 1.. {
            let state = tempfile::tempdir().expect("a folder");
            copy(whole.path(), state.path());
            let status = run_child(state.path(), place, passage);
            audit(
                state.path(),
                &digests,
                &format!("killed at {place}, passage {passage}"),
            )
            .await;
            if status.success() {
                break;
            }
            assert_eq!(
                status.signal(),
                Some(9),
                "it died of the kill alone: {status}"
            );
            kills.push(place);
        }
    }
    eprintln!("{} kills: {kills:?}", kills.len());
    // Compiled code, grants, component and two lives; a component and its grants are forgotten.
    for (place, passages) in PLACES.into_iter().zip([5, 5, 5, 2]) {
        assert_eq!(
            kills.iter().filter(|killed| **killed == place).count(),
            passages,
            "{place}"
        );
    }
}

#[test]
fn every_place_of_the_engine_is_killed_at() {
    let mut places: Vec<String> = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(path).expect("text");
            let named = text
                .split("failpoint::pass(\"")
                .skip(1)
                .filter_map(|rest| rest.split('"').next());
            places.extend(named.map(String::from));
        }
    }
    places.sort_unstable();
    let mut known = PLACES.to_vec();
    known.sort_unstable();
    assert_eq!(places, known);
}
