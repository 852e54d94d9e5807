//! The guides docs/plugins/ten-minutes.md and http.md, followed to the letter: their own commands, run one after the other
//! by a shell, on a host that is not restarted. And the other scaffold, from `wharf plugin new` to `check`.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use wharf_tests::{Backend, Host, PATIENCE, eventually, repository, wharf_binary};

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

/// A port that nobody listens at now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// docs/plugins/http.md, to the letter but for the port of its marketplace; and then `wharf plugin dev`, as it says.
#[test]
fn a_marketplace_over_http() -> Result<()> {
    wharf_tests::run(async {
        let host = Host::start(Backend::Embedded).await?;
        let dir = host.site().dir().to_owned();
        symlink(host.site().data_dir(), dir.join(".wharf"))?;
        fs::write(dir.join(".wharf/admin-token"), wharf_tests::ADMIN_TOKEN)?;
        let port = free_port()?.to_string();
        let blocks = commands("docs/plugins/http.md")?;
        ensure!(blocks.len() >= 5, "the guide has its commands");
        let guide = blocks
            .join("\n")
            .replace("http://localhost:3000", host.base_url())
            .replace("4100", &port)
            .replace(
                "cd corner\n",
                &format!("cd corner\nsed -i s/4100/{port}/ corner.toml\n"),
            );
        let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{guide}");
        let there = dir.clone();
        let output = tokio::task::spawn_blocking(move || shell(&script, &there)).await??;
        let (printed, traced) = (
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        );
        for line in [
            "(7 cases, 7 asked)",
            "accepted: order o-1, 12.5 EUR",
            "conformance/a-1250.json: one vector, 1 exchanges",
            "corner: active, serves corner with revision",
            r#"{"success":true,"orderId":"o-1","amount":12.5,"currency":"EUR""#,
            r#"{"success":false,"error":"invalid_receipt"}"#,
        ] {
            ensure!(
                printed.contains(line),
                "{line} is not in\n{printed}\n{traced}"
            );
        }
        for line in [
            &format!("> GET http://127.0.0.1:{port}/orders/A-1250"),
            "> (the credential marketplace, which the host adds)",
            r#"< {"id": "o-1", "total": 1.25e1, "currency": "EUR"}"#,
        ] {
            ensure!(traced.contains(line), "{line} is not in\n{traced}");
        }
        let recorded = fs::read_to_string(dir.join("corner/conformance/a-1250.json"))?;
        for secret in ["a-token-of-the-marketplace", "authorization"] {
            ensure!(
                !recorded.contains(secret) && !traced.contains(secret),
                "{secret}: {recorded}{traced}"
            );
        }
        what_is_changed_serves(&host, &dir.join("corner")).await
    })
}

/// `wharf plugin dev` takes each change to the host, and what is wrong with one hurts nothing.
async fn what_is_changed_serves(host: &Host, corner: &Path) -> Result<()> {
    let told = corner.join("dev.log");
    let mut dev = tokio::process::Command::new(wharf_binary())
        .args(["plugin", "dev"])
        .current_dir(corner)
        .env("BASE_URL", host.base_url())
        .env("WHARF_ADMIN_TOKEN", wharf_tests::ADMIN_TOKEN)
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .stdout(Stdio::null())
        .stderr(fs::File::create(&told)?)
        .kill_on_drop(true)
        .spawn()?;
    let manifest = corner.join("Cargo.toml");
    let write_version = |version: &str| -> Result<()> {
        let text = fs::read_to_string(&manifest)?;
        let old = text
            .lines()
            .find(|line| line.starts_with("version = "))
            .context("a version")?;
        let new = text.replacen(old, &format!("version = \"{version}\""), 1);
        Ok(fs::write(&manifest, new)?)
    };
    let serves = |version: &'static str| async move {
        let plugin = host.admin().plugin("corner").await.ok()?;
        (plugin["version"] == version && plugin["state"] == "active").then_some(())
    };
    write_version("0.2.0")?;
    let said = || fs::read_to_string(&told).unwrap_or_default();
    let served = eventually("the change serves", 5 * PATIENCE, || serves("0.2.0")).await;
    served.with_context(said)?;
    let code = corner.join("src/lib.rs");
    let good = fs::read_to_string(&code)?;
    fs::write(&code, good.replace("fn validate", "fn falidate"))?;
    let is_told = || async {
        let mistake = "error: cargo could not build the plugin";
        said().contains(mistake).then_some(())
    };
    eventually("the mistake is told", 5 * PATIENCE, is_told).await?;
    ensure!(serves("0.2.0").await.is_some(), "what served serves on");
    fs::write(&code, good)?;
    write_version("0.3.0")?;
    let served = eventually("the mended one serves", 5 * PATIENCE, || serves("0.3.0")).await;
    served.with_context(said)?;
    ensure!(dev.try_wait()?.is_none(), "it goes on");
    Ok(dev.kill().await?)
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
