//! `wharf plugin dev`: builds, checks and pushes a plugin whenever its files change.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::Value;
use tokio::{process::Command, sync::Notify, time::timeout};

use super::{
    author::{GrantsArgs, pack_file, package_facts, sandbox},
    operate,
    remote::{HostArgs, Remote},
};
use crate::{
    output::{self, Format},
    settings::CompileArgs,
    usage::{UsageError, read},
};

/// Editors write a file in several steps: so much quiet ends them.
const QUIET: Duration = Duration::from_millis(200);
const TARGET: &str = "wasm32-wasip2";

/// `wharf plugin dev`.
#[derive(Args)]
#[command(after_help = "\
Example, in the folder that `wharf plugin new corner` made, beside a host that runs:
  wharf plugin dev

Builds, packs, checks and pushes the plugin, and does so again whenever its files change, until Ctrl-C. What fails a step is
shown, and what served before serves on. Grants are those of `<name>.toml` in this folder, if there is one.")]
pub(super) struct DevArgs {
    #[command(flatten)]
    grants: GrantsArgs,
    #[command(flatten)]
    compiling: CompileArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Works until it is ended.
pub(super) async fn run(args: DevArgs, format: Format) -> anyhow::Result<()> {
    let name = package_name()?;
    let remote = Remote::new(&args.host)?;
    // Before the first build, so that no change falls between the two.
    let changed = Arc::new(Notify::new());
    let _watcher = watch(Path::new("."), &changed)?;
    loop {
        // What is wrong with one version is mended by the next.
        if let Err(error) = once(&name, &remote, &args, format).await {
            output::complain(&format!("error: {error:#}"));
        }
        output::complain("waiting for a change; Ctrl-C ends this");
        changed.notified().await;
        while timeout(QUIET, changed.notified()).await.is_ok() {}
    }
}

/// Takes the files as they are now to the host.
async fn once(name: &str, remote: &Remote, args: &DevArgs, format: Format) -> anyhow::Result<()> {
    let out = PathBuf::from(format!("{name}.wasm"));
    pack_file(&build().await?, &out)?;
    let (component, grants) = (read(&out)?, args.grants.read(&out)?);
    let report = sandbox(args.compiling, None)?
        .check(component.clone(), grants.as_deref())
        .await;
    output::complain(&report.to_string());
    ensure!(report.passed(), "not fit to serve, and not pushed");
    operate::show(&remote.push(name, component, grants).await?, format)
}

/// Returns the name of the package here.
fn package_name() -> anyhow::Result<String> {
    let package = package_facts(Path::new("Cargo.toml"))?;
    let name = package.get("name").and_then(|name| name.as_str());
    let missing = || UsageError::new("there is no package in this folder (Cargo.toml)");
    Ok(name.ok_or_else(missing)?.to_owned())
}

/// Builds the package here and returns its component.
async fn build() -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target", TARGET]);
    // Its messages name the file, wherever the target folder is; its errors go to the terminal as they are.
    cargo.args(["--message-format", "json-render-diagnostics"]);
    // Not `output()`, which would keep the compiler's errors to itself.
    let running = cargo
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let running = running.context("cargo cannot be run; is Rust installed?")?;
    let output = running.wait_with_output().await?;
    ensure!(output.status.success(), "cargo could not build the plugin");
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        // The last: the package's own comes after those that it depends on.
        .rfind(|file| file.extension() == Some(OsStr::new("wasm")));
    match built {
        Some(file) => Ok(file),
        None => bail!("cargo built no component; is the crate a `cdylib`?"),
    }
}

/// Rings when a file of the plugin changes.
fn watch(dir: &Path, changed: &Arc<Notify>) -> anyhow::Result<RecommendedWatcher> {
    let changed = changed.clone();
    let ring = move |event: notify::Result<notify::Event>| {
        if event
            .is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|p| is_source(p)))
        {
            changed.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(ring)?;
    // The folder itself for Cargo.toml and grants, but not what is built in it.
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    for folder in ["src", "conformance", "vendor"] {
        let folder = dir.join(folder);
        if folder.is_dir() {
            watcher.watch(&folder, RecursiveMode::Recursive)?;
        }
    }
    Ok(watcher)
}

/// Tells if the component or its grants depend on a file.
fn is_source(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| ["rs", "toml", "json", "txt", "wit"].contains(&ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_no_source() {
        for source in [
            "./Cargo.toml",
            "src/lib.rs",
            "conformance/responses/order.json",
        ] {
            assert!(is_source(Path::new(source)), "{source}");
        }
        for built in [
            "./corner.wasm",
            "./.corner.wasm.new",
            "Cargo.lock",
            "target",
        ] {
            assert!(!is_source(Path::new(built)), "{built}");
        }
    }
}
