//! How many webhooks an organization may have, and their list in pages.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{Answer, Backend, Host, Site, on_every_backend};

async fn register(host: &Host, number: usize) -> Result<Answer> {
    let url = format!("http://127.0.0.1:4000/a b/{number}?x=1&y=2").replace(' ', "%20");
    let webhook = json!({"organizationId": "org & co", "event": "sync.failed", "targetUrl": url});
    host.post("/webhooks/register", &webhook).await
}

/// The next page, as a path.
fn next(page: &Answer) -> Option<&str> {
    let link = page.header("link").strip_suffix(">; rel=\"next\"")?;
    link.strip_prefix('<')
}

async fn webhooks_are_limited_and_listed_in_pages(backend: Backend) -> Result<()> {
    let host = Site::open(backend).await?.host();
    let host = host.env("WEBHOOK_MAX_ENDPOINTS", "5").start().await?;
    for number in 0..5 {
        ensure!(register(&host, number).await?.status == 200);
    }
    let refused = register(&host, 5).await?;
    ensure!(refused.status == 409, "{refused:?}");
    ensure!(refused.get("error") == "Too many webhooks", "{refused:?}");
    ensure!(register(&host, 4).await?.status == 200, "it exists");

    let whole = host.get("/webhooks?organizationId=org%20%26%20co").await?;
    ensure!(next(&whole).is_none(), "{whole:?}");
    let mut page = host
        .get("/webhooks?organizationId=org%20%26%20co&limit=2")
        .await?;
    let (mut listed, mut pages) = (Vec::new(), 1);
    loop {
        listed.extend(page.json().as_array().context("a list")?.clone());
        let Some(path) = next(&page) else { break };
        page = host.get(path).await?;
        pages += 1;
    }
    assert_eq!((pages, Value::from(listed)), (3, whole.json()));

    for wrong in ["limit=0", "limit=1001", "after=", "after=%00"] {
        let path = format!("/webhooks?organizationId=o&{wrong}");
        ensure!(host.get(&path).await?.status == 400, "{wrong}");
    }
    Ok(())
}

on_every_backend!(webhooks_are_limited_and_listed_in_pages);
