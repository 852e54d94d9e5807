//! Limits on a plugin as a whole: what compiles for ever, answers slowly or talks without end costs itself alone.

use std::{fs, time::Instant};

use anyhow::{Context, Result, ensure};
use faults::stamped;
use serde_json::{Value, json};
use wharf_tests::{
    Answer, Backend, Host, Ledger, LogLine, PATIENCE, Shop, Site, built_plugin, compile_bomb,
    eventually, guest, on_every_backend,
};

/// A new revision of a component: its code is found in no cache.
fn unheard_of(component: &[u8]) -> Vec<u8> {
    let mut bytes = component.to_vec();
    let name = uuid::Uuid::new_v4().simple().to_string();
    let section = [&[32][..], name.as_bytes()].concat();
    bytes.extend([&[0, 33][..], &section].concat());
    bytes
}

/// Writes a plugin into the folder of a host that does not run yet.
fn put(site: &Site, name: &str, component: &[u8]) -> Result<()> {
    let file = site.plugins_dir().join(format!("{name}.wasm"));
    Ok(fs::write(file, component)?)
}

/// The living children of a host: its compilers.
fn compilers(host: &Host) -> Vec<u32> {
    let parent = host.pid().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        state_and_parent(*pid).is_some_and(|(state, of)| state != "Z" && of == parent)
    })
    .collect()
}

/// The state of a process and its parent, if there is one.
fn state_and_parent(pid: u32) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, but the last bracket is its own.
    let mut words = stat.rsplit(") ").next()?.split(' ');
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

async fn state(host: &Host, plugin: &str) -> Option<Value> {
    host.admin().plugin(plugin).await.ok()
}

fn stage(report: &Value) -> &str {
    report["refusal"]["stage"].as_str().unwrap_or_default()
}

async fn a_component_that_compiles_for_ever_ends_with_its_limit(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site
        .host()
        .env("PLUGIN_COMPILE_LIMIT", "15s")
        .start()
        .await?;
    let (bomb, good) = (compile_bomb(), unheard_of(&fs::read(built_plugin("etsy"))?));
    ensure!(bomb.len() < 64 * 1024, "{} bytes are no feat", bomb.len());
    // The second waits for the first, and then is compiled as if nothing had been.
    let admin = host.admin();
    let (bombed, pushed) = tokio::join!(admin.push("bomb", &bomb, None), async {
        let compiling = || async { (!compilers(&host).is_empty()).then_some(()) };
        eventually("the bomb is being compiled", PATIENCE, compiling).await?;
        admin.push("etsy", &good, None).await
    });
    let (bombed, pushed) = (bombed?, pushed?);
    assert_eq!(bombed.status, 422, "{}", bombed.text);
    assert!(bombed.text.contains("compile"), "{}", bombed.text);
    assert_eq!(pushed.status, 200, "{}", pushed.text);
    assert!(
        compilers(&host).is_empty(),
        "the limit ends the compiling itself"
    );
    Ok(())
}

async fn a_host_listens_before_it_reads_new_plugins(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let warm = site.host().start().await?;
    let shop = Shop::open(&warm, "org-1", "etsy").await?;
    drop(warm);
    // The first in the folder's order. Its limit is far beyond this test's patience with a host that does not listen.
    put(&site, "aaa", &compile_bomb())?;
    let last = stamped(fs::read(guest("hostile-adapter"))?, "describe name:zzz");
    put(&site, "zzz", &unheard_of(&last))?;
    // Memory enough for the bomb to compile for longer than its headstart.
    let host = site.host().env("PLUGIN_COMPILE_MEMORY", "2GiB");
    let mut host = host.env("PLUGIN_COMPILE_LIMIT", "20s").spawn()?;
    host.wait_until_listening().await?;
    let shown = state(&host, "aaa").await.context("aaa is shown")?;
    assert_eq!(shown["state"], "loading");
    let (unknown, nothing) = ("/mock/unknown/validate", json!({}));
    let answer = host.post(unknown, &nothing).await?;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(host.get("/readyz").await?.status, 503);
    let scrape = host.get("/metrics").await?;
    assert!(!scrape.text.contains("wharf_plugins_loading 0\n"));
    // What was compiled before serves meanwhile.
    assert_eq!(shop.import(&host, "order-101").await?["success"], true);
    let serves = || async { (state(&host, "zzz").await?["state"] == "active").then_some(()) };
    eventually("the last file serves", 3 * PATIENCE, serves).await?;
    let refused = || async {
        let report = state(&host, "aaa").await?;
        (stage(&report) == "compile").then_some(())
    };
    eventually("the bomb is refused", 3 * PATIENCE, refused).await?;
    // By the order of their ends: on a busy machine the bomb may be over as soon as the last of the others serves.
    let log = host.log();
    let step = |plugin, state| {
        log.iter()
            .position(|line| line.field("plugin") == plugin && line.field("state") == state)
            .context("a step is in the log")
    };
    assert!(step("zzz", "active")? < step("aaa", "refused")?);
    host.logged_message("the plugins are loaded").await?;
    assert_eq!(host.post(unknown, &nothing).await?.status, 400);
    assert_eq!(host.get("/readyz").await?.status, 200);
    assert!(compilers(&host).is_empty());
    Ok(())
}

async fn an_import_for_a_plugin_that_is_loading_is_put_off(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let warm = site.host().start().await?;
    let ledger = Ledger::open(&site).await?;
    ledger.served_elsewhere("hostile").await?;
    let shop = Shop::open(&warm, "org-1", "hostile").await?;
    drop(warm);
    put(&site, "aaa", &compile_bomb())?;
    let late = guest("hostile-adapter");
    put(&site, "late", &unheard_of(&fs::read(late)?))?;
    // Memory enough for the bomb to compile for longer than its headstart.
    let limits = [
        ("PLUGIN_COMPILE_LIMIT", "20s"),
        ("PLUGIN_COMPILE_MEMORY", "2GiB"),
    ];
    let mut host = limits
        .iter()
        .fold(site.host(), |host, (name, value)| host.env(name, value))
        .spawn()?;
    host.wait_until_listening().await?;
    // One of those that are loading may serve it; whoever repeats the request will know.
    let unheard = Shop::registration("org-1", "unheard-of");
    let answer = host.post("/stores/register", &unheard).await?;
    let told = (
        answer.status,
        answer.get("message"),
        answer.header("retry-after"),
    );
    assert_eq!(told, (503, json!("plugins are still being loaded"), "1"));
    let answer = shop.import(&host, "order-101").await?;
    assert_eq!(answer["error"], "marketplace_unavailable", "{answer}");
    let stored =
        "select status from sync_logs where receipt = 'order-101' and next_retry_at is not null";
    ledger.row(stored).await?;
    Ok(())
}

async fn a_slow_plugin_is_refused_in_the_whole(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let slow = stamped(fs::read(guest("hostile-adapter"))?, "always nap");
    put(&site, "aslow", &slow)?;
    let mut host = site.host().env("PLUGIN_CONFORMANCE_LIMIT", "5s").spawn()?;
    host.wait_until_listening().await?;
    let refused = || async {
        let report = state(&host, "aslow").await?;
        (stage(&report) == "conform").then_some(report)
    };
    let report = eventually("the slow plugin is refused", 3 * PATIENCE, refused).await?;
    let fix = report["refusal"]["fix"].as_str().unwrap_or_default();
    assert!(fix.contains("PLUGIN_CONFORMANCE_LIMIT"), "{report}");
    host.wait_until_up().await
}

async fn a_chatty_plugin_has_a_rate(backend: Backend) -> Result<()> {
    // As in the engine: 64 KiB a second and five seconds' worth at once.
    const BYTES_PER_SECOND: f64 = 64.0 * 1024.0;
    const CALLS: usize = 12;
    let site = Site::open(backend).await?;
    // A flood takes a debug build long.
    let grants = site.plugins_dir().join("hostile.toml");
    fs::write(grants, "[limits]\ncpu_ms = 20000")?;
    site.install_plugin("hostile", &guest("hostile-adapter"))?;
    let host = site.host().start().await?;
    let shop = Shop::open(&host, "org-1", "hostile").await?;
    let of_plugin = || {
        let lines = host.log().into_iter();
        lines.filter(|line| line.json["target"] == "plugin")
    };
    let dropped = |line: &LogLine| line.message() == "log over the limit dropped";
    let (before, began) = (of_plugin().count(), Instant::now());
    for call in 0..CALLS {
        // Each would log 64 KiB, the limit of one call.
        let receipt = "log-flood";
        let store = json!({"organizationId": format!("org-{call}"), "marketplace": "hostile",
            "externalStoreId": "1", "storeName": "s", "accessToken": "t", "currency": "USD"});
        Shop::register(&host, &store)
            .await?
            .import(&host, receipt)
            .await?;
    }
    assert_eq!(shop.import(&host, "fine").await?["success"], true);
    let told = || async { of_plugin().skip(before).find(dropped) };
    let line = eventually("what was dropped is told", PATIENCE, told).await?;
    assert!(line.json["lines"].as_u64().is_some_and(|lines| lines > 0));
    let logged: usize = of_plugin()
        .skip(before)
        .filter(|line| !dropped(line))
        .map(|line| line.message().len())
        .sum();
    let most = BYTES_PER_SECOND * (5.0 + began.elapsed().as_secs_f64());
    assert!(logged as f64 <= most, "{logged} bytes were logged");
    let tellings = of_plugin().skip(before).filter(dropped).count();
    let seconds = began.elapsed().as_secs_f64().ceil();
    assert!(tellings as f64 <= seconds + 1.0, "told {tellings} times");
    Ok(())
}

/// A line of a guest tells what it is about, and if the call was a real one.
async fn lines_of_guests_say_what_they_are_about(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    site.install_plugin("hostile", &guest("hostile-adapter"))?;
    let host = site
        .host()
        .env("LOG_LEVEL", "info,plugin=debug")
        .start()
        .await?;
    let shop = Shop::open(&host, "org-1", "hostile").await?;
    let body = json!({"syncToken": shop.sync_token, "receipt": "panic"});
    let request = host.request("POST", "/orders/import").json(&body);
    Answer::to(request.header("x-request-id", "follow-me-1")).await?;
    let about = |receipt: &'static str| {
        let host = &host;
        move || async move {
            let lines = host.log();
            let mut lines = lines.iter().filter(|line| line.json["target"] == "plugin");
            lines.find(|line| line.field("receipt") == receipt).cloned()
        }
    };
    let line = eventually("the guest's last words", PATIENCE, about("panic")).await?;
    assert_eq!(line.field("store_id"), &json!(shop.store_id));
    assert_eq!(line.field("request_id"), "follow-me-1");
    assert!(line.field("case").is_null(), "{}", line.text);

    // Vectors are answered as well, and their lines are nobody's orders.
    let grants = "origins = ['http://127.0.0.1:1']\n[config]\nbase_url = 'http://127.0.0.1:1'\nmarketplace = 'etsy'\n\
        [credentials.marketplace]\nscheme = 'bearer'\ntoken = { store = 'access-token' }";
    let component = fs::read(built_plugin("http-marketplace"))?;
    let pushed = host
        .admin()
        .push("remote", &component, Some(grants))
        .await?;
    ensure!(pushed.status == 200, "{}", pushed.text);
    let of_vectors = || async {
        let lines = host.log().into_iter();
        let mut lines = lines.filter(|line| line.json["plugin"] == "remote");
        lines.find(|line| line.field("case") == "an order keeps its amount as written")
    };
    let line = eventually("a line of a vector", PATIENCE, of_vectors).await?;
    assert!(line.field("store_id").is_null(), "{}", line.text);
    Ok(())
}

on_every_backend!(
    a_component_that_compiles_for_ever_ends_with_its_limit,
    a_host_listens_before_it_reads_new_plugins,
    an_import_for_a_plugin_that_is_loading_is_put_off,
    a_slow_plugin_is_refused_in_the_whole,
    a_chatty_plugin_has_a_rate,
    lines_of_guests_say_what_they_are_about,
);

#[test]
fn the_compilers_of_a_host_that_is_killed_die_with_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(async {
            let site = Site::open(Backend::Embedded).await?;
            put(&site, "aaa", &compile_bomb())?;
            let mut host = site.host().env("PLUGIN_COMPILE_LIMIT", "10m").spawn()?;
            host.wait_until_listening().await?;
            let compiler = || async { compilers(&host).first().copied() };
            let pid = eventually("the bomb is being compiled", PATIENCE, compiler).await?;
            host.kill().await?;
            let gone = || async { is_gone(pid).then_some(()) };
            eventually("the compiler is gone", PATIENCE, gone).await
        })
        .expect("no compiler is left behind");
}

/// Gone, or dead and not yet buried.
fn is_gone(pid: u32) -> bool {
    state_and_parent(pid).is_none_or(|(state, _)| state == "Z")
}
