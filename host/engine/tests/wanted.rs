//! The folder is what is wanted: missing, late, exchanged and unreadable files, and what serves meanwhile.
#![allow(clippy::disallowed_methods, reason = "test code")]

mod support;

use std::fs;

use support::site::{Site, refused, with_section};
use support::{ask, component, started, until};
use wharf_engine::{Engine, EngineSettings, PluginState, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_folder_is_made_and_watched() {
    let site = Site::new(&[]);
    let later = site.folder.path().join("not/yet/there");
    let settings = EngineSettings::new(&later, site.state.path());
    let engine = started(settings);
    assert_eq!(engine.folder_problem(), None);
    fs::write(later.join("etsy.wasm"), component("etsy")).expect("written");
    until("the file is found", || engine.serves("etsy")).await;
}

/// A folder that is mounted late must not be taken for an empty one, which withdraws its plugins.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_gone_is_said_and_what_serves_goes_on() {
    let site = Site::new(&["etsy"]);
    drop(site.start());
    let elsewhere = site.state.path().join("mounted-later");
    fs::rename(site.folder.path(), &elsewhere).expect("moved");
    let engine = site.start();
    assert!(engine.folder_problem().is_some() && !site.folder.path().exists());
    assert!(ask(&engine, "etsy", "order-101").await.result.is_ok());
    fs::rename(&elsewhere, site.folder.path()).expect("mounted");
    until("it is found again", || engine.folder_problem().is_none()).await;
    assert!(engine.serves("etsy"));
}

/// What each plugin serves, and the state of its newest file.
fn served(engine: &Engine) -> Vec<(String, Option<String>, PluginState)> {
    let reports = engine.plugins().into_iter();
    reports
        .map(|report| (report.plugin, report.serves, report.state))
        .collect()
}

fn all_active(pairs: &[(&str, &str)]) -> Vec<(String, Option<String>, PluginState)> {
    pairs
        .iter()
        .map(|(plugin, serves)| {
            (
                (*plugin).into(),
                Some((*serves).into()),
                PluginState::Active,
            )
        })
        .collect()
}

/// The folder is what is wanted: a host comes to serve it without a restart, and serves the same after one.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_exchanged_serve_without_a_restart() {
    let all = ["amazon", "etsy", "shopify"];
    let site = Site::new(&all);
    let engine = site.start();
    let next = |name: &str| with_section(&component(name));
    let exchanged = all_active(&[
        ("amazon", "etsy"),
        ("etsy", "amazon"),
        ("shopify", "shopify"),
    ]);
    site.put("amazon", &next("etsy"));
    site.put("etsy", &next("amazon"));
    until("two are exchanged", || served(&engine) == exchanged).await;

    let ring = all_active(&[
        ("amazon", "shopify"),
        ("etsy", "etsy"),
        ("shopify", "amazon"),
    ]);
    for (file, content) in [
        ("amazon", "shopify"),
        ("etsy", "etsy"),
        ("shopify", "amazon"),
    ] {
        site.put(file, &component(content));
    }
    until("three are exchanged in a ring", || served(&engine) == ring).await;
    for marketplace in all {
        assert!(
            ask(&engine, marketplace, "order-101").await.result.is_ok(),
            "{marketplace}"
        );
    }
    drop(engine);
    let again = site.start();
    // What was not written down when the first one ended is read from its file again, behind the start.
    until("the same after a restart", || served(&again) == ring).await;
}

/// Hosts that share the folders judge the same files at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_share_a_folder_exchange_alike() {
    let site = Site::new(&["amazon", "etsy"]);
    let hosts = [site.start(), site.start()];
    for (round, contents) in [["etsy", "amazon"], ["amazon", "etsy"]]
        .into_iter()
        .enumerate()
    {
        for (file, content) in ["amazon", "etsy"].into_iter().zip(contents) {
            let bytes = component(content);
            site.put(
                file,
                &if round == 0 {
                    with_section(&bytes)
                } else {
                    bytes
                },
            );
        }
        let wanted = all_active(&[("amazon", contents[0]), ("etsy", contents[1])]);
        for host in &hosts {
            until("both hosts serve the exchanged files", || {
                served(host) == wanted
            })
            .await;
        }
    }
}

/// One that cannot move keeps its name, and with it everybody who waits for that name.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_with_a_broken_file_changes_nothing_that_serves() {
    let site = Site::new(&["amazon", "etsy"]);
    let engine = site.start();
    site.put("amazon", &with_section(&component("etsy")));
    site.put("etsy", b"not wasm at all");
    until("both are refused", || {
        refused(&engine, "amazon") == Some(Stage::Activate)
            && refused(&engine, "etsy") == Some(Stage::Verify)
    })
    .await;
    assert_eq!(engine.marketplaces(), ["amazon", "etsy"]);
    site.put("etsy", &with_section(&component("amazon")));
    let exchanged = all_active(&[("amazon", "etsy"), ("etsy", "amazon")]);
    until("mended, they are exchanged", || {
        served(&engine) == exchanged
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_that_are_not_utf8_are_refused() {
    let site = Site::new(&[]);
    let grants = site.folder.path().join("etsy.toml");
    fs::write(&grants, b"[config]\nbase_url = 'http://caf\xe9'\n").expect("written");
    site.put("etsy", &component("etsy"));
    let engine = site.start();
    assert_eq!(refused(&engine, "etsy"), Some(Stage::Grant));
    assert!(engine.plugins()[0].state.to_string().contains("line 2"));
    assert!(!engine.serves("etsy"));
    fs::write(&grants, "[config]\nbase_url = 'http://café'\n").expect("written");
    until("mended, it serves", || engine.serves("etsy")).await;
}
