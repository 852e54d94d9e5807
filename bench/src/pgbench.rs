//! pgbench: what the database itself makes of the statements that Wharf runs.

use std::{env, fs, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::site::Site;

/// A script and the values that its variables have at first.
pub(crate) struct Script {
    /// Commands and statements.
    pub(crate) text: String,
    /// Names and values.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// Lets `clients` run the script with prepared statements, and answers the transactions a second.
pub(crate) async fn run(
    site: &Site,
    script: &Script,
    clients: usize,
    span: Duration,
) -> Result<f64> {
    let file = site.dir().join("script.sql");
    fs::write(&file, &script.text)?;
    let mut command = Command::new(
        program().context("pgbench is not installed: it comes with PostgreSQL's server")?,
    );
    command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2"]);
    command
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", span.as_secs().max(1)));
    for (name, value) in &script.variables {
        command.arg(format!("--define={name}={value}"));
    }
    command
        .arg("--file")
        .arg(&file)
        .arg(site.database_url())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    // All clients say the same.
    ensure!(
        output.status.success(),
        "{}",
        errors.lines().next().unwrap_or("pgbench failed")
    );
    let rate = text
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.with_context(|| format!("pgbench tells no rate:\n{text}"))
}

/// A statement of the store by its name, such as `logs::INSERT`, with these expressions in the places of `$1`, `$2`, ...
pub(crate) fn statement(name: &str, values: &[&str]) -> Result<String> {
    let full = format!("wharf_store::{name}");
    let found = wharf_store::statements().find(|(name, _)| *name == full);
    let mut text = found
        .with_context(|| format!("the store has no statement {name}"))?
        .1
        .postgres
        .to_owned();
    // From the last, because `$1` is the beginning of `$10`.
    for (index, value) in values.iter().enumerate().rev() {
        text = text.replace(&format!("${}", index + 1), value);
    }
    Ok(format!("{text};\n"))
}

/// In PATH, or where Debian keeps it.
fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut debian: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    debian.sort();
    let mut programs = env::split_paths(&path)
        .chain(debian.into_iter().rev())
        .map(|dir| dir.join("pgbench"));
    programs.find(|program| program.is_file())
}
