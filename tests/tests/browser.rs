//! A real browser opens pages of somebody else that try to change something in a host on loopback, and to read what it
//! has: by requests to it, and by a name of theirs that is made to lead to it (DNS rebinding).
//!
//! `cargo xtask test` installs Chromium where it can; elsewhere this suite says that it is skipped.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};
use wharf_tests::{
    Backend, Browser, Host, Ledger, PATIENCE, RawServer, eventually, on_every_backend, read_request,
};

const ORGANIZATION: &str = "org-1";
/// What no page of somebody else may see.
const TARGET: &str = "http://127.0.0.1:9/only-for-org-1";

/// All that a page can send without asking first, and what it may not: each with the answer as the page sees it.
const ATTACK: &str = r#"
    const [host, webhook] = args;
    const store = JSON.stringify({organizationId: "org-1", marketplace: "etsy", externalStoreId: "evil", storeName: "Evil",
        accessToken: "t", currency: "USD"});
    const owner = JSON.stringify({organizationId: "org-1"});
    const seen = {};
    const attempt = async (name, path, init) => {
        try {
            const answer = await fetch(host + path, init);
            seen[name] = {status: answer.status, text: await answer.text()};
        } catch (error) {
            seen[name] = {error: String(error)};
        }
    };
    const typed = (type, body) => ({method: "POST", headers: {"content-type": type}, body});
    await attempt("read", "/webhooks?organizationId=org-1", {});
    await attempt("readOpaque", "/webhooks?organizationId=org-1", {mode: "no-cors"});
    await attempt("secret", `/webhooks/${webhook}/secret?organizationId=org-1`, {});
    await attempt("text", "/stores/register", {mode: "no-cors", ...typed("text/plain", store)});
    await attempt("untyped", "/stores/register", {mode: "no-cors", method: "POST", body: new Blob([store])});
    await attempt("bare", `/webhooks/${webhook}/disable`, {mode: "no-cors", method: "POST"});
    await attempt("json", "/stores/register", typed("application/json", store));
    await attempt("disable", `/webhooks/${webhook}/disable`, typed("application/json", owner));
    await attempt("delete", `/webhooks/${webhook}?organizationId=org-1`, {method: "DELETE"});
    navigator.sendBeacon(host + "/stores/register", new Blob([store], {type: "text/plain"}));
    for (const enctype of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
        const frame = document.createElement("iframe");
        frame.name = enctype;
        document.body.append(frame);
        const form = document.createElement("form");
        Object.assign(form, {method: "POST", action: host + "/stores/register", enctype, target: enctype});
        const field = document.createElement("input");
        // With enctype text/plain `name=value` is one text, and this one JSON.
        Object.assign(field, {name: store.slice(0, -1) + ',"a":"', value: '"}'});
        form.append(field);
        document.body.append(form);
        const loaded = new Promise(resolve => frame.addEventListener("load", resolve));
        form.submit();
        await loaded;
        let text = null;
        try { text = frame.contentDocument && frame.contentDocument.documentElement.innerText; } catch {}
        seen["form " + enctype] = {text};
    }
    return seen;"#;

/// A host with a webhook, and what is in its database.
struct Victim {
    host: Host,
    ledger: Ledger,
    webhook: String,
    before: Value,
}

impl Victim {
    async fn start(backend: Backend) -> Result<Self> {
        let host = Host::start(backend).await?;
        let body =
            json!({"organizationId": ORGANIZATION, "event": "sync.failed", "targetUrl": TARGET});
        let webhook = host.post("/webhooks/register", &body).await?.get("id");
        let ledger = Ledger::open(host.site()).await?;
        let victim = Self {
            webhook: webhook.as_str().context("an id")?.to_owned(),
            before: state(&ledger).await?,
            host,
            ledger,
        };
        // The log is written a little later. What comes after this line is of the pages.
        let logged = || async { (victim.answered() == [200]).then_some(()) };
        eventually("the registration is in the log", PATIENCE, logged).await?;
        Ok(victim)
    }

    fn port(&self) -> &str {
        let (_, port) = self.host.base_url().rsplit_once(':').unwrap_or_default();
        port
    }

    /// The statuses that it answered to what changes something, also before the page came: one of 200.
    fn answered(&self) -> Vec<u64> {
        let log = self.host.log();
        let answered = log.iter().filter(|line| line.message() == "answered");
        let asked = answered.filter(|line| {
            let method = line.json["span"]["method"].as_str().unwrap_or_default();
            !["GET", "OPTIONS"].contains(&method)
        });
        asked
            .filter_map(|line| line.field("status").as_u64())
            .collect()
    }

    async fn is_unchanged(&self) -> Result<()> {
        let now = state(&self.ledger).await?;
        ensure!(now == self.before, "{now}, and before {}", self.before);
        Ok(())
    }
}

async fn state(ledger: &Ledger) -> Result<Value> {
    let select = "select (select count(*) from stores) as stores, (select count(*) from webhook_endpoints) as webhooks,
        (select count(*) from webhook_endpoints where disabled_reason is not null) as disabled,
        (select count(*) from callback_outbox) as events";
    ledger.row(select).await
}

fn skipped() -> Result<()> {
    eprintln!("browser SKIPPED: Chromium and chromedriver are not there");
    Ok(())
}

/// A page of nothing.
async fn serve_page(mut stream: TcpStream) -> std::io::Result<()> {
    let page = "<!doctype html><title>a page</title><body>a page of somebody else";
    // Closed behind each page: the next connection may lead elsewhere.
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        page.len()
    );
    read_request(&mut stream).await?;
    stream.write_all((head + page).as_bytes()).await?;
    stream.shutdown().await
}

async fn a_page_of_another_origin_changes_and_reads_nothing(backend: Backend) -> Result<()> {
    let Some(browser) = Browser::start("MAP evil.test 127.0.0.1").await? else {
        return skipped();
    };
    let result = attack_from_another_origin(&browser, backend).await;
    browser.quit().await?;
    result
}

async fn attack_from_another_origin(browser: &Browser, backend: Backend) -> Result<()> {
    let victim = Victim::start(backend).await?;
    let evil = RawServer::start("127.0.0.1", serve_page).await?;
    // Another name, and another port of the same machine, which is the same site to a browser.
    for name in ["evil.test", "127.0.0.1"] {
        browser
            .open(&format!("http://{name}:{}/", evil.address().port()))
            .await?;
        let args = [victim.host.base_url().into(), victim.webhook.clone().into()];
        let seen = browser.run(ATTACK, &args).await?;
        nothing_was_read(&seen)?;
        // The page must ask before it sends these, and is not let.
        for asked in ["json", "disable", "delete", "read", "secret"] {
            ensure!(seen[asked]["error"].is_string(), "{asked}: {seen}");
        }
    }
    // From each page three by script, three forms and a beacon. That they came shows that the browser did not keep them back.
    let refused = || async { (victim.answered().len() > 14).then(|| victim.answered()) };
    let answered = eventually("all that was sent is answered", PATIENCE, refused).await?;
    ensure!(
        answered[1..].iter().all(|status| *status == 403),
        "{answered:?}"
    );
    victim.is_unchanged().await
}

/// Whatever the page saw, it is nothing of the organization.
fn nothing_was_read(seen: &Value) -> Result<()> {
    let all = seen.to_string();
    ensure!(
        all.len() > 100 && !all.contains("only-for-org-1") && !all.contains("whsec_"),
        "{all}"
    );
    Ok(())
}

async fn a_page_whose_name_is_made_to_lead_here_changes_and_reads_nothing(
    backend: Backend,
) -> Result<()> {
    let victim = Victim::start(backend).await?;
    let address = victim
        .host
        .base_url()
        .trim_start_matches("http://")
        .to_owned();
    let is_rebound = Arc::new(AtomicBool::new(false));
    // Instead of an answer of DNS that changes: what the name leads to is first the page's server, then the host.
    let rebound = is_rebound.clone();
    let name_server = RawServer::start("127.0.0.1", move |mut stream| {
        let (rebound, address) = (rebound.clone(), address.clone());
        async move {
            // A browser opens connections ahead of what it asks; what counts is when it asks.
            stream.peek(&mut [0]).await?;
            if !rebound.load(Ordering::SeqCst) {
                return serve_page(stream).await;
            }
            let mut host = TcpStream::connect(address).await?;
            copy_bidirectional(&mut stream, &mut host).await.map(drop)
        }
    })
    .await?;
    let names = format!("MAP evil.test {}", name_server.address());
    let Some(browser) = Browser::start(&names).await? else {
        return skipped();
    };
    let result = rebind(&browser, &victim, &is_rebound).await;
    browser.quit().await?;
    result
}

async fn rebind(browser: &Browser, victim: &Victim, is_rebound: &AtomicBool) -> Result<()> {
    let own = format!("http://evil.test:{}", victim.port());
    browser.open(&format!("{own}/")).await?;
    ensure!(browser.text().await?.contains("a page of somebody else"));
    is_rebound.store(true, Ordering::SeqCst);
    let seen = browser
        .run(
            ATTACK,
            &[own.as_str().into(), victim.webhook.clone().into()],
        )
        .await?;
    nothing_was_read(&seen)?;
    // Its own origin to the browser: it sends all of it, and shows every answer.
    for sent in ["json", "disable", "delete", "read", "secret"] {
        ensure!(seen[sent]["status"] == 421, "{sent}: {seen}");
    }
    let refused = || async { (victim.answered().len() > 10).then(|| victim.answered()) };
    let answered = eventually("all that was sent is answered", PATIENCE, refused).await?;
    ensure!(
        answered[1..].iter().all(|status| *status == 421),
        "{answered:?}"
    );
    victim.is_unchanged().await
}

async fn a_page_of_the_host_itself_works(backend: Backend) -> Result<()> {
    let Some(browser) = Browser::start("MAP evil.test 127.0.0.1").await? else {
        return skipped();
    };
    let result = use_own_page(&browser, backend).await;
    browser.quit().await?;
    result
}

async fn use_own_page(browser: &Browser, backend: Backend) -> Result<()> {
    let victim = Victim::start(backend).await?;
    let own = format!("http://localhost:{}", victim.port());
    browser.open(&format!("{own}/docs/")).await?;
    let seen = browser
        .run(ATTACK, &[own.into(), victim.webhook.clone().into()])
        .await?;
    for (sent, status) in [
        ("json", 200),
        ("disable", 200),
        ("delete", 204),
        ("text", 415),
    ] {
        ensure!(seen[sent]["status"] == status, "{sent}: {seen}");
    }
    ensure!(
        victim.is_unchanged().await.is_err(),
        "a store was to be made"
    );
    Ok(())
}

on_every_backend!(
    a_page_of_another_origin_changes_and_reads_nothing,
    a_page_whose_name_is_made_to_lead_here_changes_and_reads_nothing,
    a_page_of_the_host_itself_works,
);
