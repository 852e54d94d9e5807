//! The check of a database's schema against the migrations that this program knows.
//!
//! A schema may be newer: migrations only add, so that a release can be rolled back while its schema stays. One that takes
//! something away is called `NNNN_contract_MMMM_...` and breaks programs that do not know migration MMMM, which no longer
//! use what goes. They refuse to start.

use std::collections::BTreeMap;

use sqlx::migrate::Migrator;

use crate::{Conn, Ledger, StoreError, copy, dialect::statements, migrations};

/// A schema that this program cannot work on.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations were not applied yet, from this one on.
    #[error("the schema is not up to date, it lacks migration {0}: run `wharf migrate`")]
    Behind(i64),
    /// A migration was applied with another text than this program has.
    #[error("migration {0} of the schema is not the one of this program")]
    Different(i64),
    /// The schema lost something that this program needs.
    #[error(
        "the schema is too new for this program: migration {version} ({description}) took away what it uses"
    )]
    TooNew {
        /// The migration.
        version: i64,
        /// Its name.
        description: String,
    },
    /// The database holds a part of another one.
    #[error(
        "the database holds a part of {0}: a copy into it was not finished. Repeat that `wharf copy`, which goes on where it was \
         stopped"
    )]
    Unfinished(String),
    /// The ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SchemaError {
    /// Tells if migrating mends it.
    pub fn is_behind(&self) -> bool {
        matches!(self, Self::Behind(_))
    }
}

// The table is the migration library's (sqlx).
statements! {
    HAS_MIGRATIONS = [count_tables("_sqlx_migrations")];

    APPLIED = ["select version, description, checksum from _sqlx_migrations where success order by version"];
}

/// A migration that was applied to the database.
#[derive(Clone, FromRow)]
struct Applied {
    version: i64,
    description: String,
    checksum: Vec<u8>,
}

impl Ledger {
    /// Checks that this program can work on the database: on its schema, and that all of its rows are there. Reads and
    /// changes nothing.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn check_schema(&self) -> Result<(), SchemaError> {
        self.fits().await?;
        let unfinished = copy::unfinished(&mut self.read().await?).await?;
        unfinished.map_or(Ok(()), |source| Err(SchemaError::Unfinished(source)))
    }

    /// Checks the schema alone.
    pub(crate) async fn fits(&self) -> Result<(), SchemaError> {
        let applied = applied(&mut self.read().await?).await?;
        judge(&migrations::migrator(self.backend()), &applied)
    }

    /// The migrations that were applied, oldest first.
    pub(crate) async fn versions(&self) -> Result<Vec<i64>, StoreError> {
        let applied = applied(&mut self.read().await?).await?;
        Ok(applied.iter().map(|one| one.version).collect())
    }
}

async fn applied(conn: &mut Conn) -> Result<Vec<Applied>, StoreError> {
    if conn.query(HAS_MIGRATIONS).number().await? == 0 {
        return Ok(Vec::new());
    }
    conn.query(APPLIED).all().await
}

fn judge(known: &Migrator, applied: &[Applied]) -> Result<(), SchemaError> {
    let there: BTreeMap<i64, &Applied> = applied.iter().map(|one| (one.version, one)).collect();
    for ours in known.iter() {
        let theirs = there.get(&ours.version);
        let theirs = theirs.ok_or(SchemaError::Behind(ours.version))?;
        if theirs.checksum != *ours.checksum {
            return Err(SchemaError::Different(ours.version));
        }
    }
    let newest = known.iter().map(|ours| ours.version).max().unwrap_or(0);
    for newer in applied
        .iter()
        .filter(|one| !known.version_exists(one.version))
    {
        // A program that knows the needed one no longer uses what went.
        if contracts_to(&newer.description).is_some_and(|needed| newest < needed) {
            return Err(SchemaError::TooNew {
                version: newer.version,
                description: newer.description.clone(),
            });
        }
    }
    Ok(())
}

/// The migration that programs must know to work on a schema to which this one was applied; `None` where it only adds.
fn contracts_to(description: &str) -> Option<i64> {
    let rest = description.strip_prefix("contract ")?;
    let number = rest
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    // One that names none breaks all that do not know it.
    Some(number.unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backend;

    fn known() -> Migrator {
        migrations::migrator(Backend::Postgres)
    }

    fn all() -> Vec<Applied> {
        let known = known();
        let applied = known.iter().map(|one| Applied {
            version: one.version,
            description: one.description.to_string(),
            checksum: one.checksum.to_vec(),
        });
        applied.collect()
    }

    fn with(description: &str) -> Vec<Applied> {
        let mut applied = all();
        applied.push(Applied {
            version: 9_999,
            description: description.into(),
            checksum: vec![1],
        });
        applied
    }

    #[test]
    fn a_newer_schema_fits_unless_it_lost_what_is_needed() {
        // Not their count: numbers are given before it is known which branch comes first.
        let newest = known().iter().map(|migration| migration.version).max();
        let newest = newest.expect("there are migrations");
        assert!(judge(&known(), &all()).is_ok());
        for fits in [
            "something new".to_owned(),
            "contracts of shops".to_owned(),
            format!("contract {newest:04} drop the old column"),
        ] {
            assert!(judge(&known(), &with(&fits)).is_ok(), "{fits}");
        }
        for breaks in [
            format!("contract {:04} drop", newest + 1),
            "contract drop".to_owned(),
        ] {
            let judged = judge(&known(), &with(&breaks));
            assert!(
                matches!(judged, Err(SchemaError::TooNew { version: 9_999, .. })),
                "{breaks}"
            );
        }
    }

    /// The mark that `stores::token` leaves keeps programs out that do not know the fifteenth migration.
    #[test]
    fn hidden_tokens_keep_programs_of_before_out() {
        let mark = "contract 0015 sync tokens are kept as digests";
        assert!(
            crate::stores::token::ALL
                .iter()
                .any(|(_, sql)| sql.postgres.contains(mark))
        );
        assert_eq!(contracts_to(mark), Some(15));
        assert!(judge(&known(), &with(mark)).is_ok());
    }

    #[test]
    fn a_schema_that_lacks_or_differs_is_refused() {
        assert!(matches!(judge(&known(), &[]), Err(SchemaError::Behind(1))));
        let mut applied = all();
        let last = applied.pop().expect("one");
        assert!(judge(&known(), &applied).is_err_and(|error| error.is_behind()));
        applied.push(Applied {
            checksum: vec![0],
            ..last.clone()
        });
        let judged = judge(&known(), &applied);
        assert!(matches!(judged, Err(SchemaError::Different(version)) if version == last.version));
    }
}
