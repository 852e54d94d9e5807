//! The guide docs/plugins/ten-minutes.md, followed to the letter: its own commands, run one after the other by a shell, on
//! a host that is not restarted. And the other scaffold, from `wharf plugin new` to `check`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use wharf_tests::{Backend, Host, repository, wharf_binary};

/// The shell blocks of a page, in their order.
fn commands(page: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(repository().join(page)).context(page.to_owned())?;
    let blocks = text.split("```sh\n").skip(1);
    blocks
        .map(|rest| {
            Ok(rest
                .split_once("```")
                .context("a block that ends")?
                .0
                .to_owned())
        })
        .collect()
}

/// A shell as an author has it: `wharf` and Rust in PATH. Cargo takes what this repository was built from, so nothing is
/// fetched.
fn shell(script: &str, dir: &Path) -> Result<Output> {
    let bin = TempDir::new()?;
    symlink(wharf_binary(), bin.path().join("wharf"))?;
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH")?);
    let mut shell = Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(dir);
    // What cargo tells this test of this repository is none of the author's business.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME"
            || text.starts_with("WHARF_")
            || text == "RUSTFLAGS"
        {
            shell.env_remove(&name);
        }
    }
    let output = shell
        .env("PATH", path)
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .context("bash")?;
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        output.status.success(),
        "the script ended with {}:\n{script}\n---\n{told}",
        output.status
    );
    Ok(output)
}

#[test]
fn a_marketplace_in_ten_minutes() -> Result<()> {
    wharf_tests::run(async {
        let host = Host::start(Backend::Embedded).await?;
        let (pid, dir) = (host.pid(), host.site().dir().to_owned());
        // The guide's host was started beside the folder; its settings are the defaults.
        symlink(host.site().data_dir(), dir.join(".wharf"))?;
        fs::write(dir.join(".wharf/admin-token"), wharf_tests::ADMIN_TOKEN)?;
        let blocks = commands("docs/plugins/ten-minutes.md")?;
        ensure!(blocks.len() >= 5, "the guide has its commands");
        let script = blocks
            .join("\n")
            .replace("http://localhost:3000", host.base_url());
        let output = tokio::task::spawn_blocking(move || shell(&script, &dir)).await??;
        let printed = String::from_utf8(output.stdout)?;
        for line in [
            r#"{"success":true,"orderId":"A-1250","amount":12.50,"currency":"EUR""#,
            "accepted: order A-1250, 12.50 EUR",
            "corner: active, serves corner with revision",
        ] {
            ensure!(printed.contains(line), "{line} is not in\n{printed}");
        }
        let corner = host.admin().plugin("corner").await?;
        ensure!(
            corner["version"] == "0.1.0" && corner["state"] == "active",
            "rolled back to the first: {corner}"
        );
        ensure!(
            corner["revisions"]
                .as_array()
                .is_some_and(|revisions| revisions.len() == 2),
            "{corner}"
        );
        ensure!(
            host.pid() == pid && host.get("/readyz").await?.status == 200,
            "it was never restarted"
        );
        Ok(())
    })
}

#[test]
fn a_shaper_passes_at_once() -> Result<()> {
    let dir = TempDir::new()?;
    let script = "wharf plugin new audit-log --kind shaper
        cd audit-log
        cargo test
        cargo build --release --target wasm32-wasip2
        wharf plugin pack target/wasm32-wasip2/release/audit_log.wasm --out audit-log.wasm
        wharf plugin check audit-log.wasm --json
        wharf plugin run audit-log.wasm";
    let output = shell(script, dir.path())?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(printed.contains(r#""passed": true"#), "{printed}");
    ensure!(
        printed.contains("content-type: application/json\n"),
        "{printed}"
    );
    Ok(())
}
