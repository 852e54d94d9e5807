//! The migrations of `migrations/`, oldest first, as part of the program.
//!
//! Listed here rather than found by `sqlx::migrate!`: that macro, like `sqlx::query!`, compiles both databases' drivers
//! and SQLite a second time, for the compiler's own use.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::Backend;

/// A migration: its file's name, and its text for PostgreSQL and for SQLite.
type Pair = (&'static str, &'static str, &'static str);

macro_rules! pair {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
            include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
        )
    };
}

const ALL: &[Pair] = &[
    pair!("0001_initial"),
    pair!("0002_plugin_transitions"),
    pair!("0003_retention"),
    pair!("0004_webhook_care"),
    pair!("0005_traces"),
    pair!("0006_key_canary"),
    pair!("0007_organization_limits"),
    pair!("0008_fan_out_place"),
    pair!("0009_plugin_faults"),
    pair!("0012_orders"),
    pair!("0013_webhook_edges"),
    pair!("0014_api_keys"),
    pair!("0015_store_care"),
    pair!("0016_receipts"),
    pair!("0017_operator_events"),
    pair!("0018_retention"),
];

/// Returns what brings a schema up to date.
pub(crate) fn migrator(backend: Backend) -> Migrator {
    let migrations = ALL.iter().map(|(name, postgres, sqlite)| {
        let (number, title) = name.split_once('_').expect("NNNN_title, as a test holds");
        Migration::new(
            number.parse().expect("a number, as a test holds"),
            title.replace('_', " ").into(),
            MigrationType::Simple,
            match backend {
                Backend::Postgres => *postgres,
                Backend::Sqlite => *sqlite,
            }
            .into_sql_str(),
            // Not `no_tx`: in a transaction one that fails leaves nothing behind.
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // A newer program's: `schema` judges them.
    migrator.set_ignore_missing(true);
    migrator
}

/// Returns the schema as SQL: every migration in order.
pub(crate) fn schema(backend: Backend) -> String {
    let texts: Vec<&str> = ALL
        .iter()
        .map(|(_, postgres, sqlite)| match backend {
            Backend::Postgres => *postgres,
            Backend::Sqlite => *sqlite,
        })
        .collect();
    texts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "test code")]
    fn every_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/postgres");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|file| {
                let name = file.expect("a file").file_name();
                name.to_string_lossy().trim_end_matches(".sql").to_owned()
            })
            .collect();
        files.sort();
        let listed: Vec<&str> = ALL.iter().map(|(name, ..)| *name).collect();
        assert_eq!(files, listed);
        for backend in [Backend::Postgres, Backend::Sqlite] {
            let versions: Vec<i64> = migrator(backend).iter().map(|m| m.version).collect();
            assert!(
                versions.is_sorted_by(|before, next| before < next),
                "{versions:?}"
            );
        }
    }
}
