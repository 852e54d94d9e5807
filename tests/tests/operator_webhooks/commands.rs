//! The operator's commands about webhooks of all organizations.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wharf_tests::{Host, Receiver};

use super::ids;

async fn run(host: &Host, words: &[&str]) -> Result<String> {
    let command = host.site().host().command(words);
    let command = command.env("BASE_URL", host.base_url());
    let (status, printed) = command.run().await?;
    ensure!(status.success(), "wharf {}:\n{printed}", words.join(" "));
    Ok(printed)
}

/// The same by the commands: look, count, send.
pub(crate) async fn by_commands(host: &Host, two: &Receiver, sent_before: usize) -> Result<()> {
    let listed = run(host, &["dead-letters", "search", "--org", "org-2"]).await?;
    ensure!(listed.matches("sync.failed").count() == 2, "{listed}");
    let failing = run(host, &["--json", "webhook", "failing", "--org", "org-2"]).await?;
    let failing: Value = serde_json::from_str(&failing).context(failing)?;
    ensure!(ids(&failing).len() == 1, "{failing}");
    let redrive = ["dead-letters", "redrive-all", "--status", "503"];
    let counted = run(host, &redrive).await?;
    ensure!(counted.contains("2 would be sent again"), "{counted}");
    ensure!(two.requests().len() == sent_before);
    let done = run(host, &[&redrive[..], &["--yes"]].concat()).await?;
    ensure!(done.contains("2 are being sent again"), "{done}");
    two.wait_for(sent_before + 2).await?;
    let unfiltered = run(host, &["dead-letters", "redrive-all", "--yes"]).await;
    ensure!(unfiltered.is_err(), "it asks for a filter");
    let url = two.url();
    let added = run(host, &["operator-webhook", "add", "endpoint.disabled", url]).await?;
    ensure!(added.contains("whsec_"), "{added}");
    let id = added.split_whitespace().next().context("an id")?;
    let listed = run(host, &["operator-webhook", "list"]).await?;
    ensure!(listed.contains(id) && listed.contains(url), "{listed}");
    let removed = run(host, &["operator-webhook", "remove", id]).await?;
    ensure!(removed.contains("is removed"), "{removed}");
    Ok(())
}
