//! Schemathesis, a stranger's tool, tries the API by nothing but its description, with data that the description allows
//! and data that it does not: no answer is a defect, has a status that is not documented or a body of another shape.
//!
//! `cargo xtask test` installs it where Python can be had, and says so where not; then this suite has nothing to run.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;
use wharf_tests::{ADMIN_TOKEN, Answer, Backend, Host, Site, on_every_backend, repository, tool};

const ORGANIZATION: &str = "org-123";

async fn the_api_is_what_its_description_says(backend: Backend) -> Result<()> {
    let Some(program) = tool("schemathesis/bin/schemathesis") else {
        return Ok(());
    };
    // Without workers nothing is sent to the addresses that it invents.
    let site = Site::open(backend).await?;
    let host = site
        .host()
        .role("api")
        .env("WHARF_ADMIN_TOKEN", ADMIN_TOKEN)
        // As described: every route asks for who it says that it is for.
        .guarded()
        .start()
        .await?;
    let settings = site.dir().join("schemathesis.toml");
    fs::copy(
        repository().join("tests/schemathesis/schemathesis.toml"),
        &settings,
    )?;
    fill(&host, site.dir()).await?;
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(settings)
        .arg("run")
        .arg("--no-color");
    command
        .arg(format!("{}/openapi.json", host.base_url()))
        .env("WHARF_ADMIN_TOKEN", ADMIN_TOKEN);
    let output = command
        .current_dir(site.dir())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.context("Schemathesis cannot be started")?;
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    assert!(
        output.status.success(),
        "Schemathesis found something: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let operations = host.get("/openapi.json").await?.get("paths");
    let operations = operations
        .as_object()
        .context("paths")?
        .values()
        .filter_map(Value::as_object);
    let count: usize = operations.map(serde_json::Map::len).sum();
    assert!(
        told.contains(&format!("Tested: {count}")),
        "it did not try all {count} operations"
    );
    let defects: Vec<_> = host
        .log()
        .into_iter()
        .filter(|line| line.field("level") == "ERROR")
        .collect();
    assert!(defects.is_empty(), "{defects:?}");
    Ok(())
}

/// Makes one of everything, and writes down the names for Schemathesis.
async fn fill(host: &Host, dir: &Path) -> Result<()> {
    let owner = json!({"organizationId": ORGANIZATION});
    let store = json!({"organizationId": ORGANIZATION, "marketplace": "etsy", "externalStoreId": "store-1",
        "storeName": "My Store", "accessToken": "token-abc", "currency": "USD"});
    let webhook = json!({"organizationId": ORGANIZATION, "event": "sync.failed", "targetUrl": "http://127.0.0.1:9/"});
    let token = host
        .post("/stores/register", &store)
        .await?
        .get("syncToken");
    let webhook = host.post("/webhooks/register", &webhook).await?.get("id");
    let test = format!("/webhooks/{}/test", webhook.as_str().context("a webhook")?);
    let delivery = host.post(&test, &owner).await?.get("deliveryId");
    let slack = Answer::to(
        host.request("GET", "/admin/plugins/slack")
            .bearer_auth(ADMIN_TOKEN),
    )
    .await?;
    for (name, value) in [
        ("tokens", token),
        ("webhooks", webhook),
        ("deliveries", delivery),
        ("digests", slack.get("digest")),
    ] {
        fs::write(
            dir.join(format!("{name}.dict")),
            format!("\"{}\"\n", value.as_str().context(name)?),
        )?;
    }
    Ok(())
}

on_every_backend!(the_api_is_what_its_description_says);
