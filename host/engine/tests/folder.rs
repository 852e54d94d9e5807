//! The watched folder and the compiled code on disk: files come, change, break and go while calls are served.
#![allow(clippy::disallowed_methods, reason = "test code")]

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use support::site::{Site, digest, refused, with_section};
use support::{ask, component, until};
use wharf_engine::{Digest, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn files_come_change_break_and_go() {
    let site = Site::new(&["etsy"]);
    let engine = site.start();
    assert_eq!(engine.marketplaces(), ["etsy"], "loaded at the start");

    let dropped = Instant::now();
    site.put("shopify", &component("shopify"));
    until("a new file serves", || engine.serves("shopify")).await;
    eprintln!("a file dropped in was active after {:?}", dropped.elapsed());

    let before = digest(&engine, "etsy");
    site.put("etsy", &component("etsy")[..1_000]);
    until("the broken file is refused", || {
        refused(&engine, "etsy") == Some(Stage::Verify)
    })
    .await;
    assert_eq!(
        digest(&engine, "etsy"),
        before,
        "the old revision serves on"
    );
    assert!(ask(&engine, "etsy", "order-101").await.result.is_ok());

    site.put("etsy", &component("etsy"));
    until("the mended file is active", || {
        refused(&engine, "etsy").is_none()
    })
    .await;

    fs::remove_file(site.file("shopify")).expect("removed");
    until("a removed file is withdrawn", || !engine.serves("shopify")).await;
    assert!(engine.serves("etsy"));
}

#[test]
fn a_bad_folder_never_stops_the_host() {
    let site = Site::new(&["etsy"]);
    fs::write(site.file("garbage"), b"not wasm at all").expect("written");
    fs::write(site.file("empty"), b"").expect("written");
    fs::create_dir(site.file("folder")).expect("created");
    // Two names that a file system without case takes for one.
    fs::write(site.file("Etsy"), component("amazon")).expect("written");
    let made = Command::new("mkfifo")
        .arg(site.file("pipe"))
        .status()
        .expect("mkfifo");
    assert!(made.success());
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("amazon.wasm"), component("amazon")).expect("written");
    std::os::unix::fs::symlink(outside.path().join("amazon.wasm"), site.file("outside"))
        .expect("linked");
    let nowhere = site.folder.path().join("nowhere");
    std::os::unix::fs::symlink(&nowhere, site.file("dangling")).expect("linked");
    fs::write(site.file("ungranted"), component("amazon")).expect("written");
    std::os::unix::fs::symlink(nowhere, site.folder.path().join("ungranted.toml")).expect("linked");
    fs::write(site.folder.path().join("amazon.WASM"), component("amazon")).expect("written");
    let latin = std::ffi::OsStr::from_bytes(b"caf\xe9.wasm");
    fs::write(site.folder.path().join(latin), component("amazon")).expect("written");
    fs::create_dir(site.folder.path().join("data")).expect("created");
    fs::write(
        site.folder.path().join("data/shopify"),
        component("shopify"),
    )
    .expect("written");
    std::os::unix::fs::symlink(site.folder.path().join("data/shopify"), site.file("inside"))
        .expect("linked");

    let engine = site.start();
    assert_eq!(
        engine.marketplaces(),
        ["etsy", "shopify"],
        "a link inside the folder is followed"
    );
    for (plugin, stage) in [
        ("garbage", Stage::Verify),
        ("empty", Stage::Verify),
        ("folder", Stage::Read),
        ("Etsy", Stage::Read),
        ("pipe", Stage::Read),
        ("outside", Stage::Read),
        ("dangling", Stage::Read),
        ("ungranted", Stage::Read),
        ("amazon.WASM", Stage::Read),
        ("caf\\xe9.wasm", Stage::Read),
    ] {
        assert_eq!(refused(&engine, plugin), Some(stage), "{plugin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_fail_no_call() {
    let site = Site::new(&["etsy"]);
    let engine = site.start();
    // The other revision differs by a custom section alone: the same code, another digest.
    let versions = [component("etsy"), with_section(&component("etsy"))];
    let (stop, calls) = (
        std::sync::Arc::new(AtomicBool::new(false)),
        std::sync::Arc::new(AtomicU64::new(0)),
    );
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (engine, stop, calls) = (engine.clone(), stop.clone(), calls.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let called = ask(&engine, "etsy", "order-101").await;
                    assert!(
                        called.result.is_ok() && called.digest.is_some(),
                        "{called:?}"
                    );
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for swap in 1..=20 {
        let bytes = &versions[swap % 2];
        site.put("etsy", bytes);
        until("the swap", || {
            digest(&engine, "etsy") == Some(Digest::of(bytes))
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("no call failed");
    }
    eprintln!("{} calls during 20 swaps", calls.load(Ordering::Relaxed));
}

/// Whoever copies over a plugin's own file shows the host halves of it: they are refused, and never served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_swapped_while_it_is_read_is_served_whole_or_not_at_all() {
    let site = Site::new(&["etsy"]);
    let engine = site.start();
    let versions = [component("etsy"), with_section(&component("etsy"))];
    let whole = versions.clone().map(|bytes| Digest::of(&bytes));
    let (file, parts) = (site.file("etsy"), versions.clone());
    let (writing, is_writing) = (
        std::sync::Arc::new(AtomicBool::new(true)),
        AtomicU64::new(0),
    );
    let still = writing.clone();
    let writer = std::thread::spawn(move || {
        for bytes in parts.iter().cycle().take(41) {
            let mut file = fs::File::create(&file).expect("emptied");
            bytes
                .chunks(8 * 1024)
                .for_each(|part| std::io::Write::write_all(&mut file, part).expect("written"));
            // The operating system's hints come meanwhile, and the host reads what is there.
            std::thread::sleep(Duration::from_millis(40));
        }
        still.store(false, Ordering::Relaxed);
    });
    while writing.load(Ordering::Relaxed) {
        let called = ask(&engine, "etsy", "order-101").await;
        assert!(
            called.result.is_ok() && called.digest.is_some_and(|digest| whole.contains(&digest)),
            "{called:?}"
        );
        is_writing.fetch_add(1, Ordering::Relaxed);
    }
    writer.join().expect("written to the end");
    until("the last one serves", || {
        digest(&engine, "etsy") == Some(whole[0]) && refused(&engine, "etsy").is_none()
    })
    .await;
    assert!(is_writing.load(Ordering::Relaxed) > 0);
}

/// A link may come into the place of a file at any time, and lead anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_becomes_a_link_is_not_followed_outside() {
    let site = Site::new(&["etsy"]);
    let engine = site.start();
    let before = digest(&engine, "etsy");
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("other.wasm"), component("shopify")).expect("written");
    let link = site.folder.path().join(".link");
    std::os::unix::fs::symlink(outside.path().join("other.wasm"), &link).expect("linked");
    fs::rename(link, site.file("etsy")).expect("renamed");
    until("the link is refused", || {
        refused(&engine, "etsy") == Some(Stage::Read)
    })
    .await;
    assert_eq!(
        digest(&engine, "etsy"),
        before,
        "the old revision serves on"
    );
    assert_eq!(engine.marketplaces(), ["etsy"]);
}

#[test]
fn compiled_code_is_kept_and_never_believed_blindly() {
    let site = Site::new(&["etsy", "shopify"]);
    drop(site.start());
    let compiled = site.state.path().join("compiled");
    let files = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    assert_eq!(files(&compiled).len(), 2);
    let key = site.state.path().join("compiled.key");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).expect("a key").permissions());
    assert_eq!(mode & 0o777, 0o600);

    type Spoil = fn(&mut Vec<u8>);
    let spoil: [(&str, Spoil); 5] = [
        ("one bit", |bytes| *bytes.last_mut().expect("bytes") ^= 1),
        ("a forged code", |bytes| bytes[..32].fill(0)),
        ("cut short", |bytes| bytes.truncate(100)),
        ("empty", Vec::clear),
        ("garbage", |bytes| *bytes = vec![0xAA; 4_096]),
    ];
    for (what, spoil) in spoil {
        for file in files(&compiled) {
            let mut bytes = fs::read(&file).expect("compiled code");
            spoil(&mut bytes);
            fs::write(&file, bytes).expect("written");
        }
        assert_eq!(site.start().marketplaces(), ["etsy", "shopify"], "{what}");
    }

    // Somebody else's code under our name, and a key that others could read.
    let [one, other] = &files(&compiled)[..] else {
        panic!("two files")
    };
    fs::copy(one, other).expect("copied");
    assert_eq!(site.start().marketplaces(), ["etsy", "shopify"]);
    let before = fs::read(&key).expect("a key");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("changed");
    assert_eq!(site.start().marketplaces(), ["etsy", "shopify"]);
    assert_ne!(
        fs::read(&key).expect("a key"),
        before,
        "a key that others could read is replaced"
    );
}

/// A host that ran for months starts again: what could serve must not wait for a compiler.
#[tokio::test(flavor = "multi_thread")]
async fn code_of_retained_revisions_is_kept_however_old() {
    let site = Site::new(&["etsy"]);
    let versions = [component("etsy"), with_section(&component("etsy"))];
    {
        let engine = site.start();
        site.put("etsy", &versions[1]);
        until("the swap", || {
            digest(&engine, "etsy") == Some(Digest::of(&versions[1]))
        })
        .await;
    }
    let compiled = site.state.path().join("compiled");
    let unneeded = compiled.join("of-nobody.code");
    fs::write(&unneeded, b"code").expect("written");
    let long_ago = SystemTime::now() - Duration::from_secs(90 * 24 * 60 * 60);
    let files = || {
        fs::read_dir(&compiled)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
    };
    for file in files() {
        fs::File::options()
            .write(true)
            .open(file)
            .and_then(|file| file.set_modified(long_ago))
            .expect("aged");
    }
    let engine = site.start();
    until("code that nobody needs is gone", || !unneeded.exists()).await;
    assert_eq!(
        files().count(),
        2,
        "of the active revision and of the retained one"
    );
    assert_eq!(
        engine
            .rollback("etsy", "operator")
            .await
            .expect("one before"),
        Digest::of(&versions[0])
    );
    assert!(ask(&engine, "etsy", "order-101").await.result.is_ok());
}

#[tokio::test]
async fn an_engine_may_end_inside_a_runtime_while_a_guest_spins() {
    let engine = support::engine_with("hostile-adapter").await;
    let spinning = {
        let engine = engine.clone();
        tokio::spawn(async move { ask(&engine, "hostile", "spin").await })
    };
    tokio::task::yield_now().await;
    spinning.abort();
    drop(engine);
}
