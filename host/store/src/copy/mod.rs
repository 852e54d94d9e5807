//! Copying a database into one of the other kind, table by table, those that others refer to first.
//!
//! Each batch of rows is a transaction together with the place that it leads to (`copy_progress`), so that a copy goes on
//! where it was stopped. While that table has rows, no process starts on the target ([`SchemaError::Unfinished`]). Sealed values
//! stay as they are: both databases need the same keys.

mod batch;
mod checks;
mod sums;

pub use self::{batch::Batch, checks::open, sums::Compared};
use crate::{
    Backend, Conn, Ledger, SchemaError, StoreError, Tx,
    dialect::statements,
    tables::{
        catalogue::{self, Known},
        page::Walk,
    },
};

statements! {
    PROGRESS = ["select table_name, source, after_key, copied from copy_progress order by table_name"];
    BEGIN = ["insert into copy_progress (table_name, source) values ($1, $2)"];
    // The fence: of two copies into one database, one finds its place taken.
    ADVANCE = ["update copy_progress set after_key = $3, copied = copied + $4
        where table_name = $1 and after_key is not distinct from $2"];
    FINISH = ["delete from copy_progress"];
}

/// The reason why a database is not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A program works on one of them.
    #[error(
        "{place} is in use ({who}): stop every `wharf` process that works on it first. What they write behind the \
             place that was copied would be lost"
    )]
    InUse {
        /// The database.
        place: String,
        /// Who uses it, as far as it is known.
        who: String,
    },
    /// Both are of one kind.
    #[error(
        "both databases are of one kind: copy SQLite by `wharf backup`, and PostgreSQL by pg_dump"
    )]
    SameKind,
    /// A schema does not fit this program.
    #[error("{place}")]
    Schema {
        /// The database.
        place: &'static str,
        /// The mistake.
        #[source]
        why: SchemaError,
    },
    /// Migrations were applied to one that the other lacks.
    #[error("the schemas differ: the source has migrations up to {0}, the target up to {1}")]
    Versions(i64, i64),
    /// There are rows in the target that no copy put there.
    #[error("the target is not empty: {0} has rows. Copy into a new database")]
    NotEmpty(String),
    /// The target holds a part of something else.
    #[error(
        "the target holds a part of {0}, from a copy that was not finished. Go on with that one, or copy into a new database"
    )]
    OtherSource(String),
    /// Another copy into the same target went on from the same place.
    #[error("another copy into the same target is running")]
    Overtaken,
    /// A row does not go into the target.
    #[error("table {table} cannot be copied")]
    Table {
        /// The table.
        table: String,
        /// The reason.
        #[source]
        why: StoreError,
    },
    /// A database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A copy on its way.
pub struct Copy {
    source: Ledger,
    target: Ledger,
    tables: Vec<Known>,
    /// The table that is being copied, and the place of it that is reached.
    at: usize,
    walk: Walk,
    after: Option<String>,
    /// Rows that were in the target already when this process began.
    pub resumed: u64,
}

#[derive(FromRow)]
struct Progress {
    table_name: String,
    source: String,
    after_key: Option<String>,
    copied: i64,
}

impl Copy {
    /// Begins a copy, or goes on with one that was not finished. `name` tells the source from others. An empty target gets its
    /// schema.
    ///
    /// # Errors
    /// If it must not be: see [`CopyError`]. Then nothing was changed but an empty target's schema.
    pub async fn begin(source: &Ledger, target: &Ledger, name: &str) -> Result<Self, CopyError> {
        if source.backend() == target.backend() {
            return Err(CopyError::SameKind);
        }
        checks::schemas(source, target).await?;
        checks::nobody_works_on(source, "the source").await?;
        checks::nobody_works_on(target, "the target").await?;
        let tables = tables(source, target).await?;
        let mut tx = target.begin().await?;
        let progress: Vec<Progress> = tx.query(PROGRESS).all().await?;
        if let Some(other) = progress.iter().find(|row| row.source != name) {
            return Err(CopyError::OtherSource(other.source.clone()));
        }
        if progress.is_empty() {
            checks::empty(&mut tx, &tables).await?;
            for known in &tables {
                let begun = tx.query(BEGIN).bind(known.table.name.as_str()).bind(name);
                begun.run().await.map_err(taken)?;
            }
        }
        tx.commit().await?;
        // What is done lies before the first table that has its place and rows behind it.
        let (mut at, mut after) = (0, None);
        for (number, known) in tables.iter().enumerate() {
            let place = progress
                .iter()
                .find(|row| row.table_name == known.table.name);
            if let Some(place) = place.and_then(|row| row.after_key.clone()) {
                (at, after) = (number, Some(place));
            }
        }
        let walk = walk(source.backend(), &tables[at]);
        let resumed = progress
            .iter()
            .map(|row| u64::try_from(row.copied).unwrap_or(0))
            .sum();
        Ok(Self {
            source: source.clone(),
            target: target.clone(),
            tables,
            at,
            walk,
            after,
            resumed,
        })
    }

    /// Reads the next rows of the source; `None` when all were.
    pub async fn read(&mut self) -> Result<Option<Batch>, CopyError> {
        loop {
            let Some(known) = self.tables.get(self.at) else {
                return Ok(None);
            };
            let mut conn = self.source.read().await?;
            let after = self.after.as_deref().map(batch::place).transpose()?;
            let page = self.walk.page(&mut conn, after.as_deref()).await?;
            if let Some(last) = page.rows.last() {
                let reached = batch::text(&self.walk.place(last));
                return Ok(Some(Batch {
                    known: known.clone(),
                    before: self.after.clone(),
                    reached,
                    rows: page.rows,
                }));
            }
            self.at += 1;
            self.after = None;
            if let Some(next) = self.tables.get(self.at) {
                self.walk = walk(self.source.backend(), next);
            }
        }
    }

    /// Begins the transaction of a batch.
    pub async fn begin_batch(&self) -> Result<Tx, StoreError> {
        self.target.begin().await
    }

    /// The batch is in the target; the next one comes after it.
    pub fn reached(&mut self, batch: Batch) {
        self.after = Some(batch.reached);
    }

    /// Reads both databases from end to end, and tells for each table whether they hold the same.
    ///
    /// # Errors
    /// If one cannot be read.
    pub async fn compare(
        &self,
        mut told: impl FnMut(&Compared),
    ) -> Result<Vec<Compared>, StoreError> {
        let mut all = Vec::new();
        for known in &self.tables {
            let compared = sums::compare(&self.source, &self.target, known).await?;
            told(&compared);
            all.push(compared);
        }
        Ok(all)
    }

    /// Lets processes start on the target. Call it when all was compared and is the same.
    ///
    /// # Errors
    /// If somebody began to work on the source meanwhile, or the target cannot be written.
    pub async fn finish(self) -> Result<(), CopyError> {
        checks::nobody_works_on(&self.source, "the source").await?;
        let mut conn = self.target.write().await?;
        conn.query(FINISH).run().await?;
        // Plans made before there were rows would be of no use for the first hours.
        Ok(checks::learn(&mut conn, &self.tables).await?)
    }
}

/// Reads which database an unfinished copy into this one comes from, if there is such a copy.
pub(crate) async fn unfinished(conn: &mut Conn) -> Result<Option<String>, StoreError> {
    let progress: Vec<Progress> = conn.query(PROGRESS).all().await?;
    Ok(progress.into_iter().next().map(|row| row.source))
}

async fn tables(source: &Ledger, target: &Ledger) -> Result<Vec<Known>, StoreError> {
    let (one, other) = (
        catalogue::read(&mut source.read().await?).await?,
        catalogue::read(&mut target.read().await?).await?,
    );
    match source.backend() {
        Backend::Postgres => catalogue::agree(&one, &other),
        Backend::Sqlite => catalogue::agree(&other, &one),
    }
}

/// A walk over all columns of a table, in the order of its key.
fn walk(backend: Backend, known: &Known) -> Walk {
    Walk::new(
        backend,
        catalogue::quoted(&known.table.name),
        known.key(),
        known.read(backend),
    )
}

fn taken(error: StoreError) -> CopyError {
    match error {
        StoreError::Taken(_) => CopyError::Overtaken,
        other => other.into(),
    }
}
