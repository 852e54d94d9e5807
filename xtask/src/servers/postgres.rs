//! A private PostgreSQL. It refuses to run as root, so root starts it as another user.

use std::{
    env, fs,
    fs::File,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Durability, free_port, last_lines};
use crate::{
    process::{Background, background, id, run_ok, wait_until},
    progress::step,
};

/// Settings of every private server: a socket in its own directory, room for the suites' many small pools.
const SETTINGS: [&str; 4] = [
    "listen_addresses=127.0.0.1",
    "max_connections=200",
    "autovacuum_naptime=10s",
    "log_min_messages=warning",
];
/// Settings that tests switch off: their data does not outlive them.
const FAST: [&str; 3] = [
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
];

/// A running server with a superuser `wharf` who needs no password.
pub(super) struct Postgres {
    // In this order: the server ends before its directory goes.
    _server: Background,
    _dir: TempDir,
    port: u16,
}

impl Postgres {
    pub(super) fn start(durability: Durability) -> Result<Self> {
        let programs = programs().context("PostgreSQL is not installed")?;
        let user = unprivileged_user()?;
        let dir = tempfile::Builder::new()
            .prefix("wharf-postgres-")
            .tempdir()?;
        if let Some(user) = &user {
            chown(dir.path(), Some(id(&["-u", user])?.parse()?), None)
                .context("the server's directory")?;
        }
        step("PostgreSQL: a fresh cluster", || {
            init(&programs, user.as_deref(), dir.path())
        })?;
        let port = free_port()?;
        let server = step(&format!("PostgreSQL on 127.0.0.1:{port}"), || {
            serve(&programs, user.as_deref(), dir.path(), port, durability)
        })?;
        Ok(Self {
            _server: server,
            _dir: dir,
            port,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://wharf@127.0.0.1:{}/postgres", self.port)
    }
}

fn init(programs: &Path, user: Option<&str>, dir: &Path) -> Result<()> {
    let log = File::create(dir.join("initdb.log"))?;
    let mut command = background(&programs.join("initdb"), user)?;
    command.current_dir(dir).arg("-D").arg(dir.join("data"));
    command.args([
        "--no-sync",
        "--auth=trust",
        "--username=wharf",
        "--encoding=UTF8",
        "--locale=C",
    ]);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    run_ok(&mut command).with_context(|| last_lines(&dir.join("initdb.log")))
}

fn serve(
    programs: &Path,
    user: Option<&str>,
    dir: &Path,
    port: u16,
    durability: Durability,
) -> Result<Background> {
    let log_path = dir.join("server.log");
    let log = File::create(&log_path)?;
    let mut command = background(&programs.join("postgres"), user)?;
    command
        .current_dir(dir)
        .arg("-D")
        .arg(dir.join("data"))
        .arg("-k")
        .arg(dir);
    command.args(["-p", &port.to_string()]);
    let fast: &[&str] = if durability == Durability::Skipped {
        &FAST
    } else {
        &[]
    };
    for setting in SETTINGS.iter().chain(fast) {
        command.args(["-c", setting]);
    }
    if durability == Durability::Kept && counts_statements(programs) {
        command.args(["-c", "shared_preload_libraries=pg_stat_statements"]);
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut server = Background::start("PostgreSQL", &mut command)?;
    wait_until("PostgreSQL is ready", Duration::from_secs(60), || {
        server.check()?;
        Ok(is_ready(dir))
    })
    .with_context(|| last_lines(&log_path))?;
    Ok(server)
}

/// Debian ships the extension that counts statements with the server; others with a package of its own.
fn counts_statements(programs: &Path) -> bool {
    // Canonical: PATH may name a link.
    let server = fs::canonicalize(programs.join("postgres")).unwrap_or_default();
    let installed = server.parent().unwrap_or(programs);
    let library = installed
        .with_file_name("lib")
        .join("pg_stat_statements.so");
    library.is_file()
}

/// The server writes its state into the eighth line of its pid file; `pg_ctl` reads it there too.
fn is_ready(dir: &Path) -> bool {
    let pid_file = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
    pid_file
        .lines()
        .nth(7)
        .is_some_and(|state| state.trim() == "ready")
}

/// The directory of the server's programs: in PATH, or where Debian keeps them, the newest version first.
pub(super) fn programs() -> Option<PathBuf> {
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| {
            versions
                .flatten()
                .map(|version| version.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    debian.sort_by_key(|dir| std::cmp::Reverse(major_version(dir)));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(debian)
        .find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
}

fn major_version(bin: &Path) -> u32 {
    let version = bin.parent().and_then(Path::file_name).unwrap_or_default();
    version.to_string_lossy().parse().unwrap_or(0)
}

/// Whom root starts the server as; nobody else needs another user.
fn unprivileged_user() -> Result<Option<String>> {
    if id(&["-u"])? != "0" {
        return Ok(None);
    }
    let exists = |user: &&str| {
        Command::new("id")
            .args(["-u", user])
            .output()
            .is_ok_and(|found| found.status.success())
    };
    match ["postgres", "nobody"].iter().find(|user| exists(user)) {
        Some(user) => Ok(Some((*user).to_owned())),
        None => bail!(
            "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`"
        ),
    }
}
