//! The names and addresses that a host goes by: which ones requests may name, what web pages of other origins may send,
//! and the admin API at an address of its own. `browser.rs` tries the same with a real browser.

use anyhow::{Context, Result};
use serde_json::json;
use wharf_tests::{ADMIN_TOKEN, Answer, Backend, Host, Ledger, Site, on_every_backend};

const STORE: &str = r#"{"organizationId":"org-1","marketplace":"etsy","externalStoreId":"shop","storeName":"Shop",
    "accessToken":"token","currency":"USD"}"#;

/// Registers a store, with these headers beside.
async fn register(host: &Host, content_type: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let request = host
        .request("POST", "/stores/register")
        .header("content-type", content_type)
        .body(STORE);
    let request = headers
        .iter()
        .fold(request, |all, (name, value)| all.header(*name, *value));
    Answer::to(request).await
}

/// The status of a request that names this host.
async fn status(base_url: &str, path: &str, host: &str) -> Result<u16> {
    let request = wharf_tests::client()
        .get(format!("{base_url}{path}"))
        .header("host", host);
    Ok(Answer::to(request).await?.status)
}

async fn a_host_on_loopback_answers_by_its_own_names(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let address = host.base_url().trim_start_matches("http://").to_owned();
    for own in [&address, "localhost", "wharf.localhost:1", "[::1]:3000"] {
        assert_eq!(
            status(host.base_url(), "/healthz", own).await?,
            200,
            "{own}"
        );
    }
    for foreign in [
        "evil.test",
        "evil.test:3000",
        "10.0.0.1",
        "localhost.evil.test",
    ] {
        for path in [
            "/healthz",
            "/webhooks?organizationId=org-1",
            "/nowhere",
            "/docs/",
            "/metrics",
        ] {
            let status = status(host.base_url(), path, foreign).await?;
            assert_eq!(status, 421, "{foreign} {path}");
        }
        let answer = register(&host, "application/json", &[("host", foreign)]).await?;
        assert_eq!(
            (answer.status, answer.get("error")),
            (421, json!("Misdirected request"))
        );
    }
    let ledger = Ledger::open(host.site()).await?;
    assert_eq!(ledger.number("select count(*) from stores").await?, 0);
    Ok(())
}

async fn a_host_answers_by_the_names_that_it_was_told(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let told = site
        .host()
        .env("ALLOWED_HOSTS", "wharf.example.com, 192.0.2.1:8080");
    let host = told.start().await?;
    for (name, expected) in [
        ("wharf.example.com", 200),
        ("WHARF.example.com:80", 200),
        ("192.0.2.1:8080", 200),
        ("192.0.2.1", 421),
        ("localhost", 200),
        ("evil.test", 421),
    ] {
        let status = status(host.base_url(), "/openapi.json", name).await?;
        assert_eq!(status, expected, "{name}");
    }
    drop(host);
    // Beyond loopback, where a supervisor asks by an address.
    let told = [
        ("HOST", "0.0.0.0"),
        ("API_AUTH", "off"),
        ("ALLOWED_HOSTS", "wharf.example.com"),
    ];
    let open = told
        .iter()
        .fold(site.host(), |host, (name, value)| host.env(name, value));
    let open = open.start().await?;
    let port = open.base_url().rsplit(':').next().context("a port")?;
    let base_url = format!("http://127.0.0.1:{port}");
    for (name, path, expected) in [
        ("wharf.example.com", "/openapi.json", 200),
        ("10.0.0.1:3000", "/openapi.json", 421),
        ("localhost", "/openapi.json", 421),
        ("10.0.0.1:3000", "/healthz", 200),
        ("10.0.0.1:3000", "/readyz", 200),
    ] {
        assert_eq!(
            status(&base_url, path, name).await?,
            expected,
            "{name} {path}"
        );
    }
    Ok(())
}

async fn pages_of_other_origins_change_nothing(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let own = host.base_url().to_owned();
    for headers in [
        &[("origin", "http://evil.test")][..],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:1")],
        &[("sec-fetch-site", "cross-site")],
        &[("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
    ] {
        let answer = register(&host, "application/json", headers).await?;
        assert_eq!(
            (answer.status, answer.get("error")),
            (403, json!("Origin refused"))
        );
        assert_no_cors(&answer);
    }
    // What a page may send without a preflight is no body here, whoever sends it.
    for simple in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
    ] {
        assert_eq!(register(&host, simple, &[]).await?.status, 415, "{simple}");
    }
    let preflight = host
        .request("OPTIONS", "/stores/register")
        .header("origin", "http://evil.test")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    assert_no_cors(&Answer::to(preflight).await?);
    let read = host
        .request("GET", "/openapi.json")
        .header("origin", "http://evil.test");
    let read = Answer::to(read).await?;
    assert_eq!(read.status, 200);
    assert_no_cors(&read);
    let ledger = Ledger::open(host.site()).await?;
    assert_eq!(ledger.number("select count(*) from stores").await?, 0);
    let answer = register(
        &host,
        "application/json",
        &[("origin", &own), ("sec-fetch-site", "same-origin")],
    )
    .await?;
    assert_eq!(answer.status, 200, "{}: its own page", answer.text);
    Ok(())
}

fn assert_no_cors(answer: &Answer) {
    let names: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
    assert!(
        !names.iter().any(|name| name.starts_with("access-control-")),
        "{names:?}"
    );
}

async fn the_admin_api_has_an_address_of_its_own(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site.host().env("ADMIN_ADDR", "127.0.0.1:0").start().await?;
    let admin = host.admin_url().await?;
    let ask = async |base_url: &str, path: &str, token: &str| {
        let request = wharf_tests::client().get(format!("{base_url}{path}"));
        anyhow::Ok(Answer::to(request.bearer_auth(token)).await?.status)
    };
    assert_eq!(ask(&admin, "/admin/plugins", ADMIN_TOKEN).await?, 200);
    assert_eq!(
        ask(&admin, "/admin/plugins", "another-token-of-16").await?,
        401
    );
    assert_eq!(
        ask(host.base_url(), "/admin/plugins", ADMIN_TOKEN).await?,
        404
    );
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(&admin, path, "").await?, 200, "{path}");
    }
    for path in ["/stores/sync-status", "/metrics", "/docs/"] {
        assert_eq!(ask(&admin, path, ADMIN_TOKEN).await?, 404, "{path}");
    }
    assert_eq!(status(&admin, "/healthz", "evil.test").await?, 421);
    for (url, succeeds) in [("ADMIN_URL", true), ("BASE_URL", false)] {
        let command = site
            .host()
            .command(&["plugin", "inspect", "etsy"])
            .env("BASE_URL", host.base_url())
            .env(url, if succeeds { &admin } else { host.base_url() });
        let (status, said) = command.run().await?;
        assert_eq!(status.success(), succeeds, "{said}");
    }
    // An idle connection to it does not hold up the end.
    let _idle = tokio::net::TcpStream::connect(admin.trim_start_matches("http://")).await?;
    assert!(host.stop().await?.success());
    assert!(
        ask(&admin, "/healthz", "").await.is_err(),
        "nobody listens any more"
    );
    Ok(())
}

on_every_backend!(
    a_host_on_loopback_answers_by_its_own_names,
    a_host_answers_by_the_names_that_it_was_told,
    pages_of_other_origins_change_nothing,
    the_admin_api_has_an_address_of_its_own,
);
