//! What must be so before a copy, and at its end.

use super::CopyError;
use crate::{
    Backend, Conn, Ledger, LedgerSettings, StoreError,
    dialect::Sql,
    schema::SchemaError,
    tables::{
        SEEDED,
        catalogue::{Known, quoted},
    },
};

/// Programs that work on this database: roles are the last word of their names (`docs/operating.md`).
const WORKING: Sql = Sql {
    postgres: "select distinct application_name as name from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
            and (application_name like '% api' or application_name like '%-worker'
                or application_name like '%-scheduler' or application_name like '% all roles')",
    // Never asked: the file is locked.
    sqlite: "select '' as name where false",
};

/// Opens a database to be copied from or to. SQLite's file is locked against every other program until it is closed.
///
/// # Errors
/// [`CopyError::InUse`] if a program has the file open. If it is missing or no database.
pub async fn open(settings: &LedgerSettings, make: bool) -> Result<Ledger, CopyError> {
    let Some(path) = settings.sqlite_path() else {
        return Ok(Ledger::open(settings).await?);
    };
    match Ledger::open_alone(settings, make).await {
        Err(StoreError::Conflict(_)) => Err(CopyError::InUse {
            place: path.display().to_string(),
            who: "the file is locked".into(),
        }),
        opened => Ok(opened?),
    }
}

/// Both schemas fit this program and are of one version.
pub(super) async fn schemas(source: &Ledger, target: &Ledger) -> Result<(), CopyError> {
    let wrong = |place: &'static str| move |why| CopyError::Schema { place, why };
    source.check_schema().await.map_err(wrong("the source"))?;
    match target.fits().await {
        // Nothing was ever applied: it is new.
        Err(SchemaError::Behind(1)) => target.migrate().await?,
        fits => fits.map_err(wrong("the target"))?,
    }
    let (one, other) = (source.versions().await?, target.versions().await?);
    if one != other {
        let newest = |versions: &[i64]| versions.last().copied().unwrap_or(0);
        return Err(CopyError::Versions(newest(&one), newest(&other)));
    }
    Ok(())
}

/// No other process works on it, as far as the database tells. SQLite's file is locked, which is certain.
pub(super) async fn nobody_works_on(ledger: &Ledger, place: &str) -> Result<(), CopyError> {
    if ledger.backend() == Backend::Sqlite {
        return Ok(());
    }
    let working: Vec<(String,)> = ledger.read().await?.query(WORKING).all().await?;
    if working.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = working.into_iter().map(|(name,)| name).collect();
    Err(CopyError::InUse {
        place: place.to_owned(),
        who: names.join(", "),
    })
}

/// No table has a row but those that a migration puts in, which are removed.
pub(super) async fn empty(conn: &mut Conn, tables: &[Known]) -> Result<(), CopyError> {
    for known in tables {
        let name = &known.table.name;
        if SEEDED.contains(&&**name) {
            conn.run_made(format!("delete from {}", quoted(name)), Vec::new())
                .await?;
        }
        let any = format!("select 'x' from {} limit 1", quoted(name));
        if !conn.texts(any, Vec::new(), usize::MAX).await?.0.is_empty() {
            return Err(CopyError::NotEmpty(name.clone()));
        }
    }
    Ok(())
}

/// Lets the database learn how its tables are filled.
pub(super) async fn learn(conn: &mut Conn, tables: &[Known]) -> Result<(), StoreError> {
    for known in tables {
        conn.run_made(format!("analyze {}", quoted(&known.table.name)), Vec::new())
            .await?;
    }
    Ok(())
}
