//! The settings of the database: where it is, how long it is waited for, and who changes its schema.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum, value_parser};
use wharf_egress::Url;
use wharf_store::LedgerSettings;

use super::{SettingError, parse};
use crate::secret::Secret;

/// The database.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub(crate) struct DatabaseArgs {
    #[arg(skip = Secret::of_environment("DATABASE_URL"))]
    pub(super) database_url: Secret,
    /// Maximum number of connections
    #[arg(long, env = "DATABASE_POOL", value_name = "DATABASE_POOL", default_value = "16",
          value_parser = value_parser!(u32).range(1..=1_000))]
    pub(crate) database_pool: u32,
    /// Longest wait for PostgreSQL to answer at the start, `0s` for none
    #[arg(long, env = "DATABASE_START_WAIT", value_name = "DATABASE_START_WAIT", default_value = "60s",
          value_parser = parse::delay)]
    pub(crate) database_start_wait: Duration,
    /// Longest wait of an operation for a free connection; then it answers 503
    #[arg(long, env = "DATABASE_ACQUIRE_TIMEOUT", value_name = "DATABASE_ACQUIRE_TIMEOUT", default_value = "5s",
          value_parser = parse::duration)]
    pub(crate) database_acquire_timeout: Duration,
    /// PostgreSQL cancels a statement that takes longer; migrations have no limit
    #[arg(long, env = "DATABASE_STATEMENT_TIMEOUT", value_name = "DATABASE_STATEMENT_TIMEOUT", default_value = "30s",
          value_parser = parse::duration)]
    pub(crate) database_statement_timeout: Duration,
}

/// The setting MIGRATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Migrate {
    /// Bring the schema up to date where it is not.
    Auto,
    /// Only check it: it is brought up to date by `wharf migrate`, with a role that may.
    Check,
}

/// The kind of database of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    /// SQLite on this machine.
    Embedded,
    /// PostgreSQL, which other processes may work on too.
    Shared,
}

impl DatabaseArgs {
    /// Returns the kind of database.
    pub(crate) fn deployment(&self) -> Deployment {
        if self.database_url.expose().is_some_and(is_postgres) {
            Deployment::Shared
        } else {
            Deployment::Embedded
        }
    }

    /// The URL, by default a file in the data folder.
    pub(crate) fn url(&self, data_dir: &Path) -> String {
        match self.database_url.expose() {
            Some(url) => url.to_owned(),
            None => data_dir.join("wharf.db").display().to_string(),
        }
    }

    /// The path of the embedded database's file; `None` for one in memory or PostgreSQL's.
    pub(crate) fn sqlite_path(&self, data_dir: &Path) -> Option<PathBuf> {
        LedgerSettings::new(self.url(data_dir)).sqlite_path()
    }

    /// Tells what is wrong with the URL.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        wrong.extend(self.database_url.check(check_url).err());
    }
}

/// Both schemes are libpq's; sqlx takes both.
fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

/// Tells what is wrong with the URL of a database, without the URL.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    if is_postgres(url) {
        let url = Url::parse(url).map_err(|_| "is not a valid postgres:// URL")?;
        return check_parameters(&url);
    }
    match url.split_once("://") {
        Some((scheme, _)) if scheme != "sqlite" => {
            Err("must be postgres://..., sqlite:PATH or the path of a SQLite file".into())
        }
        _ => Ok(()),
    }
}

/// Parameters of a URL that the driver knows. It passes over others, and a misspelt `sslmode` would be no TLS.
const PARAMETERS: [&str; 13] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// `allow` is missing: the driver would never use TLS then.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

fn check_parameters(url: &Url) -> Result<(), String> {
    for (name, value) in url.query_pairs() {
        if !PARAMETERS.contains(&&*name) {
            // The name may be a part of a password with a `?` in it.
            return Err(format!(
                "has a parameter other than {}",
                PARAMETERS.join(", ")
            ));
        }
        if name == "sslmode" && !SSL_MODES.contains(&&*value) {
            return Err(format!(
                "has an sslmode other than {}",
                SSL_MODES.join(", ")
            ));
        }
        if matches!(&*name, "port" | "statement-cache-capacity") && value.parse::<u16>().is_err() {
            return Err(format!("has a {name} that is no number up to 65535"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_database_that_can_be_opened() {
        for good in [
            "data.db",
            "sqlite:data.db",
            "sqlite://data.db",
            "sqlite::memory:",
            "postgres://u:p@db.internal:5433/wharf",
            "postgresql:///wharf?host=/run/postgresql",
            "postgres://u@db/wharf?sslmode=verify-full&sslrootcert=/etc/ssl/authority.pem",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "mysql://u:hidden@db/wharf",
            "postgres://u:hidden@db:99999/wharf",
            "postgres://u:hidden@db/wharf?sslmode=allow",
            "postgres://u:hidden@db/wharf?sslmode=verify_full",
            "postgres://u:hidden@db/wharf?ssl_mode=require",
            "postgres://u:hidden@db/wharf?hidden=1",
            "postgres://u:hidden@db/wharf?port=99999",
        ] {
            let said = check_url(bad).expect_err(bad);
            assert!(!said.contains("hidden"), "{said}");
        }
    }
}
