//! A marketplace that is asked over HTTP: the adapter `http-marketplace` against Wharf's own mock routes. What it says is
//! mapped to the right fault, and its credentials are the host's alone.

use std::{fs, sync::Arc};

use anyhow::Result;
use serde_json::{Value, json};
use wharf_tests::{
    Backend, Host, HostBuilder, Ledger, PATIENCE, Receiver, Shop, Site, built_plugin, eventually,
    guest, on_every_backend,
};

const PASSWORD: &str = "a-password-that-no-guest-may-see";
/// The value of `Authorization: Basic` for `remote-user` and the password.
const BASIC: &str = "cmVtb3RlLXVzZXI6YS1wYXNzd29yZC10aGF0LW5vLWd1ZXN0LW1heS1zZWU=";

/// A host that is both: the one that asks and the marketplace that is asked.
fn host(site: &Arc<Site>) -> HostBuilder {
    let named = ["ETSY", "HOSTILE"]
        .into_iter()
        .fold(site.host(), |host, marketplace| {
            let name = |what: &str| format!("MOCK_{marketplace}_{what}");
            host.env(&name("USER"), "remote-user")
                .env(&name("PASS"), PASSWORD)
        });
    // What grants may name is apart from the host's own settings.
    named
        .env("WHARF_PLUGIN_USER", "remote-user")
        .env("WHARF_PLUGIN_PASS", PASSWORD)
        .env("WHARF_PLUGIN_WRONG", "wrong")
}

/// The grants of `plugins/http-marketplace/example.toml`, for the host at this address.
fn grants(origin: &str, marketplace: &str, serve_as: &str, password: &str, limits: &str) -> String {
    format!(
        "origins = ['{origin}']\nprivate_networks = ['127.0.0.0/8']\n\
         [config]\nbase_url = '{origin}'\nmarketplace = '{marketplace}'\nserve_as = '{serve_as}'\n\
         [credentials.marketplace]\nscheme = 'basic'\nuser = {{ env = 'WHARF_PLUGIN_USER' }}\n\
         password = {{ env = '{password}' }}\norigins = ['{origin}']\n[limits]\n{limits}\n"
    )
}

/// Drops the adapter in as a plugin of this name, and opens a store that it serves.
async fn remote(host: &Host, name: &str, grants: &str) -> Result<Shop> {
    fs::write(
        host.site().plugins_dir().join(format!("{name}.toml")),
        grants,
    )?;
    host.site()
        .install_plugin(name, &built_plugin("http-marketplace"))?;
    let active = || async {
        let plugin = host.admin().plugin(name).await.ok()?;
        (plugin["state"] == "active" && plugin["serves"] == name).then_some(())
    };
    eventually(&format!("{name} serves"), PATIENCE, active).await?;
    Shop::open(host, "org-1", name).await
}

/// The log of a receipt, with the seconds from its answer until it is asked again.
async fn log_of(ledger: &Ledger, receipt: &str) -> Result<Value> {
    let wait = ledger.seconds_between("updated_at", "next_retry_at");
    let columns = format!("status, attempt, last_error, order_id, {wait} as wait");
    ledger
        .row(&format!(
            "select {columns} from sync_logs where receipt = '{receipt}'"
        ))
        .await
}

async fn what_the_mock_says_is_the_right_answer(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = host(&site).start().await?;
    let shop = remote(
        &host,
        "remote-etsy",
        &grants(
            host.base_url(),
            "etsy",
            "remote-etsy",
            "WHARF_PLUGIN_PASS",
            "",
        ),
    )
    .await?;
    let etsy = Shop::open(&host, "org-1", "etsy").await?;
    let (remote, direct) = (
        shop.import(&host, "order-101").await?,
        etsy.import(&host, "order-101").await?,
    );
    assert_eq!(remote["success"], true, "{remote}");
    for same in ["orderId", "amount", "currency"] {
        assert_eq!(
            remote[same], direct[same],
            "200, accepted: the order of whom it asked"
        );
    }
    assert_eq!(
        shop.import(&host, "order-102").await?,
        json!({"success": false, "error": "invalid_receipt"})
    );
    assert_eq!(
        shop.import(&host, "order-115").await?,
        json!({"success": false, "error": "rate_limited"})
    );
    Ok(())
}

async fn what_goes_wrong_is_the_right_fault(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    site.install_plugin("hostile", &guest("hostile-adapter"))?;
    let host = host(&site).start().await?;
    let origin = host.base_url().to_owned();
    let ledger = Ledger::open(&site).await?;
    let unavailable = json!({"success": false, "error": "marketplace_unavailable"});

    let hostile = grants(
        &origin,
        "hostile",
        "remote-hostile",
        "WHARF_PLUGIN_PASS",
        "http_timeout_ms = 1500",
    );
    let shop = remote(&host, "remote-hostile", &hostile).await?;
    // 429 with Retry-After: the marketplace's own wait, here longer than the first backoff.
    assert_eq!(
        shop.import(&host, "fault:4000").await?["error"],
        "rate_limited"
    );
    let log = log_of(&ledger, "fault:4000").await?;
    assert_eq!(
        (&log["status"], &log["attempt"]),
        (&json!("rate_limited"), &json!(1))
    );
    assert!(
        (3_950.0..=4_000.0).contains(&log["wait"].as_f64().unwrap_or_default()),
        "{log}"
    );
    // 5xx, and no answer in time; the mock route gives a sleeping guest much longer.
    for (receipt, said) in [
        (
            "fault:unavailable",
            "unavailable: the marketplace answered 503",
        ),
        ("trap", "unavailable: the marketplace answered 503"),
        ("sleep-in-host-call", "unavailable: "),
    ] {
        assert_eq!(shop.import(&host, receipt).await?, unavailable, "{receipt}");
        let log = log_of(&ledger, receipt).await?;
        assert!(
            log["last_error"]
                .as_str()
                .is_some_and(|error| error.starts_with(said)),
            "{receipt}: {log}"
        );
    }

    let wrong = grants(&origin, "etsy", "remote-wrong", "WHARF_PLUGIN_WRONG", "");
    let shop = remote(&host, "remote-wrong", &wrong).await?;
    assert_eq!(shop.import(&host, "order-101").await?, unavailable);
    let log = log_of(&ledger, "order-101").await?;
    assert_eq!(
        log["last_error"],
        "unauthorized: the marketplace answered 401"
    );
    // None of it is the plugin's fault.
    for plugin in ["remote-hostile", "remote-wrong"] {
        let counters = host.admin().plugin(plugin).await?["counters"].take();
        assert_eq!(counters["plugin_faults"], 0, "{plugin}: {counters}");
    }
    Ok(())
}

/// The credential goes out with the request, and nowhere else: no guest, log, answer or file of state has it.
async fn credentials_are_the_hosts_alone(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    site.install_plugin("hostile", &guest("hostile-adapter"))?;
    let host = host(&site).start().await?;
    let upstream = Receiver::start().await?;
    upstream.answer_with(|_| r#"{"status":false}"#);
    let origin = upstream.url().trim_end_matches("/webhook");
    let shop = remote(
        &host,
        "remote",
        &grants(origin, "etsy", "remote", "WHARF_PLUGIN_PASS", ""),
    )
    .await?;
    assert_eq!(
        shop.import(&host, "order-101").await?["error"],
        "invalid_receipt"
    );
    let [asked] = &upstream.requests()[..] else {
        panic!("one request")
    };
    assert_eq!(asked.header("authorization"), format!("Basic {BASIC}"));

    // A guest in the same host asks for all that it can think of.
    let hostile = Shop::open(&host, "org-1", "hostile").await?;
    for receipt in [
        "look-around",
        "config:WHARF_PLUGIN_PASS",
        "config:marketplace",
        "config:password",
        "config:base_url",
    ] {
        assert_eq!(
            hostile.import(&host, receipt).await?["error"],
            "invalid_receipt",
            "{receipt}"
        );
    }
    let ledger = Ledger::open(&site).await?;
    let seen = ledger
        .rows("select receipt, last_error from sync_logs where receipt <> 'order-101'")
        .await?;
    for log in seen {
        let nothing = if log["receipt"] == "look-around" {
            ""
        } else {
            "not granted"
        };
        assert_eq!(log["last_error"], nothing, "{log}");
    }
    for plugin in ["remote", "hostile"] {
        let shown = host.admin().plugin(plugin).await?.to_string();
        assert!(
            !shown.contains(PASSWORD) && !shown.contains(BASIC),
            "{shown}"
        );
    }
    let logged = host.logged();
    assert!(
        !logged.contains(PASSWORD) && !logged.contains(BASIC),
        "it was logged"
    );
    let state = site.data_dir().join("engine");
    for folder in ["plugins", "revisions"] {
        for file in fs::read_dir(state.join(folder))? {
            let bytes = fs::read(file?.path())?;
            let holds = |secret: &str| {
                bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes())
            };
            assert!(!holds(PASSWORD) && !holds(BASIC), "it is kept in {folder}");
        }
    }
    Ok(())
}

/// An operator grants what was missing, and the revision that waited serves.
async fn a_revision_waits_for_its_grants(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = host(&site).start().await?;
    site.install_plugin("remote", &built_plugin("http-marketplace"))?;
    let waits = || async {
        let plugin = host.admin().plugin("remote").await.ok()?;
        (plugin["state"] == "needs-approval").then_some(plugin)
    };
    let plugin = eventually("it waits", PATIENCE, waits).await?;
    assert!(
        plugin["refusal"]["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("the credential marketplace"))
    );
    let shop = remote(
        &host,
        "remote",
        &grants(host.base_url(), "etsy", "remote", "WHARF_PLUGIN_PASS", ""),
    )
    .await?;
    assert_eq!(shop.import(&host, "order-101").await?["success"], true);
    // Asking for more than is granted by now: the old revision serves on.
    let asks_for_more = grants(
        "http://127.0.0.2:1",
        "etsy",
        "remote",
        "WHARF_PLUGIN_PASS",
        "",
    );
    let asks_for_more =
        asks_for_more.replacen("origins = ['http://127.0.0.2:1']", "origins = []", 1);
    fs::write(site.plugins_dir().join("remote.toml"), asks_for_more)?;
    let plugin = eventually("it waits again", PATIENCE, waits).await?;
    assert!(
        plugin["refusal"]["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("the origin http://127.0.0.2:1"))
    );
    assert_eq!(shop.import(&host, "order-103").await?["success"], true);
    Ok(())
}

/// Whoever may push plugins grants to them what they may use, and must not read the host's own secrets by that.
async fn grants_reach_no_secret_of_the_host(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = host(&site).start().await?;
    let component = fs::read(built_plugin("http-marketplace"))?;
    let key = site.data_dir().join("admin-token");
    fs::write(&key, wharf_tests::ADMIN_TOKEN)?;
    for (place, why) in [
        (
            "env = 'WHARF_ENCRYPTION_KEY'".to_owned(),
            "begin with WHARF_PLUGIN_",
        ),
        ("env = 'PATH'".to_owned(), "begin with WHARF_PLUGIN_"),
        (
            format!("file = '{}'", key.display()),
            "in the folder of secrets",
        ),
        (
            "file = '/proc/self/environ'".to_owned(),
            "in the folder of secrets",
        ),
    ] {
        let grants = format!("[credentials.marketplace]\nscheme = 'bearer'\ntoken = {{ {place} }}");
        let answer = host
            .admin()
            .push("remote", &component, Some(&grants))
            .await?;
        assert_eq!(answer.status, 422, "{place}: {}", answer.text);
        assert!(answer.text.contains(why), "{place}: {}", answer.text);
    }
    // What lies in the folder may be granted, by its name.
    let secrets = site.dir().join("plugin-secrets");
    fs::create_dir_all(&secrets)?;
    fs::write(secrets.join("password"), PASSWORD)?;
    let granted = grants(host.base_url(), "etsy", "remote", "WHARF_PLUGIN_PASS", "")
        .replace("env = 'WHARF_PLUGIN_PASS'", "file = 'password'");
    let shop = remote(&host, "remote", &granted).await?;
    assert_eq!(shop.import(&host, "order-101").await?["success"], true);
    Ok(())
}

on_every_backend!(
    what_the_mock_says_is_the_right_answer,
    what_goes_wrong_is_the_right_fault,
    credentials_are_the_hosts_alone,
    a_revision_waits_for_its_grants,
    grants_reach_no_secret_of_the_host,
);
