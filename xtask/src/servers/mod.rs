//! A private PostgreSQL and Redis for one run: free ports on loopback, a temporary directory, gone at the end.
//!
//! A server that the environment names (`WHARF_TEST_DATABASE_URL` or `DATABASE_URL`, `WHARF_TEST_REDIS_URL` or
//! `REDIS_URL`) is used as it is and left running.

mod postgres;
mod redis;

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use self::{postgres::Postgres, redis::Redis};
use crate::{
    install,
    process::{exit_code, run},
    progress::note,
};

/// Names the tests' PostgreSQL, as a role that may create databases.
const TEST_DATABASE_URL: &str = "WHARF_TEST_DATABASE_URL";
/// Names the tests' Redis.
const TEST_REDIS_URL: &str = "WHARF_TEST_REDIS_URL";

/// Durability of a commit: kept, the servers wait for the disk before they confirm it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// As in production: for measurements and for people.
    Kept,
    /// For tests, which throw the data away.
    Skipped,
}

/// Servers that run as long as this value lives.
pub(crate) struct Servers {
    database_url: String,
    redis_url: String,
    _postgres: Option<Postgres>,
    _redis: Option<Redis>,
}

impl Servers {
    /// Starts what the environment does not name, installing it first where that is needed and allowed.
    pub(crate) fn start(durability: Durability) -> Result<Self> {
        let database_url = named(&[TEST_DATABASE_URL, "DATABASE_URL"]);
        let redis_url = named(&[TEST_REDIS_URL, "REDIS_URL"]);
        install_missing(database_url.is_none(), redis_url.is_none())?;
        let postgres = database_url
            .is_none()
            .then(|| Postgres::start(durability))
            .transpose()?;
        let redis = redis_url
            .is_none()
            .then(|| Redis::start(durability))
            .transpose()?;
        Ok(Self {
            database_url: postgres
                .as_ref()
                .map(Postgres::url)
                .or(database_url)
                .context("a database")?,
            redis_url: redis
                .as_ref()
                .map(Redis::url)
                .or(redis_url)
                .context("a Redis")?,
            _postgres: postgres,
            _redis: redis,
        })
    }

    /// Tells a command where the servers are, in the names that the tests read and no others: a host under test gets
    /// its settings from its test alone.
    pub(crate) fn name_for_tests(&self, command: &mut Command) {
        command
            .env(TEST_DATABASE_URL, &self.database_url)
            .env(TEST_REDIS_URL, &self.redis_url);
        command.env_remove("DATABASE_URL").env_remove("REDIS_URL");
    }

    /// Tells a command where the servers are, in the names that `wharf` reads too.
    pub(crate) fn name_for_all(&self, command: &mut Command) {
        self.name_for_tests(command);
        command
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", &self.redis_url);
    }
}

/// `cargo xtask with-servers`: any command with the servers up.
pub(crate) fn run_with(durability: Durability, words: &[String]) -> Result<ExitCode> {
    let servers = Servers::start(durability)?;
    note(&format!(
        "DATABASE_URL={} REDIS_URL={}",
        servers.database_url, servers.redis_url
    ));
    let mut command = Command::new(words.first().context("a command to run")?);
    command.args(&words[1..]);
    servers.name_for_all(&mut command);
    Ok(exit_code(run(&mut command)?))
}

fn named(names: &[&str]) -> Option<String> {
    names
        .iter()
        .filter_map(|name| env::var(name).ok())
        .find(|value| !value.is_empty())
}

fn install_missing(postgres: bool, redis: bool) -> Result<()> {
    let mut missing = Vec::new();
    if postgres && postgres::programs().is_none() {
        missing.push("postgresql");
    }
    if redis && redis::program().is_none() {
        missing.push("redis-server");
    }
    let installed = if missing.is_empty() {
        Ok(())
    } else {
        install::packages(&missing)
    };
    installed.context("servers are missing; or set DATABASE_URL and REDIS_URL")
}

/// A port on loopback that nobody listens on. The system hands them out in turn, so it is not soon given to another.
pub(crate) fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// The last lines that a server wrote, for the message when it does not start.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
