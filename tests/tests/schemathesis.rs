//! Schemathesis, a stranger's tool, tries the API by nothing but its description, with data that the description allows
//! and data that it does not: no answer is a defect, has a status that is not documented or a body of another shape.
//!
//! `cargo xtask test` installs it where Python can be had, and says so where not; then this suite has nothing to run.

use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::Command;
use wharf_tests::{Backend, Site, on_every_backend, repository, tool};

const ADMIN_TOKEN: &str = "the-admin-token-of-the-tests";

async fn the_api_is_what_its_description_says(backend: Backend) -> Result<()> {
    let Some(program) = tool("schemathesis/bin/schemathesis") else { return Ok(()) };
    // Without workers nothing is sent to the addresses that it invents.
    let site = Site::open(backend).await?;
    let host = site.host().role("api").env("WHARF_ADMIN_TOKEN", ADMIN_TOKEN).start().await?;
    let mut command = Command::new(program);
    command.arg("--config-file").arg(repository().join("tests/schemathesis/schemathesis.toml"));
    command.args(["run", "--no-color", &format!("{}/openapi.json", host.base_url())]);
    command.current_dir(site.dir()).env("WHARF_ADMIN_TOKEN", ADMIN_TOKEN).kill_on_drop(true);
    let output = command.stdin(Stdio::null()).output().await.context("Schemathesis cannot be started")?;
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("Test Phases") || told.contains("passed"), "it tried nothing: {told}");
    let defects: Vec<_> = host.log().into_iter().filter(|line| line.field("level") == "ERROR").collect();
    assert!(defects.is_empty(), "{defects:?}");
    Ok(())
}

on_every_backend!(the_api_is_what_its_description_says);
