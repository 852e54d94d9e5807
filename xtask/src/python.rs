//! Tools in Python, each in a virtual environment of its own below `target/tools`, with pinned versions.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use console::style;

use crate::{
    install,
    process::run_ok,
    progress::section,
    workspace::{find_program, root, target_dir},
};

/// Installs what a file of the repository pins, unless it is there already. Where that cannot be done it says so, and
/// what needs the tool does without.
pub(crate) fn install_loudly(name: &str, requirements: &str) {
    if let Err(why) = install(name, &root().join(requirements)) {
        say_skipped(name, &why);
    }
}

/// Tells why a suite has nothing to run.
pub(crate) fn say_skipped(suite: &str, why: &anyhow::Error) {
    let said = format!("{suite} SKIPPED, it could not be installed: {why:#}");
    eprintln!("{}", style(said).yellow().bold().for_stderr());
}

fn install(name: &str, requirements: &Path) -> Result<()> {
    let dir = target_dir()?.join("tools").join(name);
    let wanted = fs::read(requirements).with_context(|| requirements.display().to_string())?;
    // Written last: what is half installed is installed again.
    let stamp = dir.join("installed.txt");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("an old version");
        }
        _ => {}
    }
    let installed = section(&format!("Installing {name}"), || fill(&dir, requirements));
    if installed.is_err() {
        // Nobody takes half a tool for one; that it is gone is as good as that it never was.
        let _ = fs::remove_dir_all(&dir);
    }
    installed.and_then(|()| Ok(fs::write(stamp, wanted)?))
}

fn fill(dir: &Path, requirements: &Path) -> Result<()> {
    if !has_venv() {
        install::packages(&["python3", "python3-venv"])?;
    }
    run_ok(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
    let mut pip = Command::new(dir.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--requirement",
    ]);
    run_ok(pip.arg(requirements).stdin(Stdio::null()))
}

/// Debian ships Python without the part that makes environments.
fn has_venv() -> bool {
    let mut python = Command::new("python3");
    let tried = python
        .args(["-c", "import ensurepip, venv"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    find_program("python3").is_some() && tried.is_ok_and(|status| status.success())
}
