//! What an operator wants to know of one store: how much is open, its job, its latest runs and faults. Every number is
//! counted up to a bound, every list is short, so that looking costs the same beside ten million receipts.

use uuid::Uuid;
use wharf_domain::{OrganizationId, StoreId, SyncCounts, Time};

use crate::{
    Conn, StoreError,
    dialect::statements,
    values::{At, JsonText},
};

statements! {
    // By status and whether it rests. `limit` inside: of a store with a million open receipts these many are read.
    OPEN = ["select status, exhausted, count(*) as number from
            (select status, exhausted from sync_logs where store_id = $1 and status <> 'success' order by id limit $2) o
        group by status, exhausted"];
    DUE_LOGS = ["select count(*) as number from
            (select 1 from sync_logs where store_id = $1 and due_at <= $2 limit $3) d"];
    LOGS = ["select count(*) as number from (select 1 from sync_logs where store_id = $1 limit $2) l"];
    JOB = ["select state, due_at, held_at, attempt, last_error, run_id, run_started_at, processed, succeeded, failed,
            rate_limited from sync_jobs where store_id = $1"];
    // Of the newest $3 events of the organization: no index finds a store's own, and nobody waits for one that does.
    RUNS = ["select id, event, payload, created_at, request_id from
            (select id, event, payload, created_at, request_id, store_id from callback_outbox
                where organization_id = $1 order by created_at desc, id desc limit $3) o
        where store_id = $2 and (event = 'sync.completed' or event = 'sync.failed')
        order by created_at desc, id desc limit $4"];
    PENDING_EVENTS = ["select count(*) as number from
            (select store_id, status from callback_outbox
                where organization_id = $1 order by created_at desc, id desc limit $3) o
        where store_id = $2 and status = 'pending'"];
    // Of the newest $2 receipts that are not done.
    FAULTS = ["select id, receipt, status, exhausted, attempt, last_error, updated_at from
            (select id, receipt, status, exhausted, attempt, last_error, updated_at from sync_logs
                where store_id = $1 and status <> 'success' order by id desc limit $2) l
        where last_error is not null order by id desc limit $3"];
}

/// Rows are counted up to here. Ten thousand are read in some milliseconds, and beyond that nobody needs the number.
pub const MAX_COUNTED: i64 = 10_000;
/// Of an organization's newest events, or of a store's newest open receipts, so many are looked at.
const MAX_LOOKED_AT: i64 = 1_000;
/// Runs and faults that are shown.
pub const MAX_SHOWN: i64 = 10;

/// A number of rows that was counted up to a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The number.
    pub number: i64,
    /// There may be more: the bound was met.
    pub is_at_least: bool,
}

impl Count {
    /// A number that was counted up to `most`.
    pub const fn up_to(number: i64, most: i64) -> Self {
        Self {
            number,
            is_at_least: number >= most,
        }
    }
}

/// A store's receipts that are not orders, by what they wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Nobody has said anything about them.
    pub pending: i64,
    /// Refused by the marketplace, or not to be asked.
    pub failed: i64,
    /// Put off by the marketplace.
    pub rate_limited: i64,
    /// Of all these, those that rest: nobody asks about them again by itself.
    pub exhausted: i64,
    /// There are more than were counted.
    pub is_at_least: bool,
}

/// A store's job.
#[derive(Clone, Debug)]
pub struct Job {
    /// `idle`, `queued` or `running`.
    pub state: String,
    /// Queued: when it is run. Running: when the lease ends.
    pub due_at: Option<Time>,
    /// The time when it was put off because the store is held.
    pub held_at: Option<Time>,
    /// Claims since the last run that ended well.
    pub attempt: i64,
    /// The reason why the last claim failed.
    pub last_error: Option<String>,
    /// The run in progress: when it began, and its sums so far.
    pub run: Option<(Time, SyncCounts)>,
}

/// A run that ended.
#[derive(Clone, Debug)]
pub struct PastRun {
    /// The event that told of it.
    pub event_id: Uuid,
    /// `sync.completed` or `sync.failed`.
    pub event: String,
    /// The time when it ended.
    pub ended_at: Time,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// The sums, as the event tells them: a JSON object as text.
    pub payload: String,
}

/// A receipt with an error.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The receipt.
    pub receipt: String,
    /// Its status.
    pub status: String,
    /// Nobody asks again by itself.
    pub is_exhausted: bool,
    /// The number of times the marketplace was asked.
    pub attempt: i64,
    /// The error.
    pub error: String,
    /// The time of the last change.
    pub at: Time,
}

/// What is known of one store beside its row.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// All receipts.
    pub receipts: Count,
    /// Those that are not orders.
    pub open: Open,
    /// Those that are due now.
    pub due: Count,
    /// The job; `None` if there never was one.
    pub job: Option<Job>,
    /// The latest runs, newest first, of those that the organization's newest events tell of.
    pub runs: Vec<PastRun>,
    /// The newest receipts with an error, newest first.
    pub faults: Vec<Fault>,
}

#[derive(FromRow)]
struct JobRow {
    state: String,
    due_at: Option<At>,
    held_at: Option<At>,
    attempt: i64,
    last_error: Option<String>,
    run_id: Option<Uuid>,
    run_started_at: Option<At>,
    processed: i64,
    succeeded: i64,
    failed: i64,
    rate_limited: i64,
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        let counts = SyncCounts {
            processed: row.processed,
            success: row.succeeded,
            failed: row.failed,
            rate_limited: row.rate_limited,
        };
        let run = row.run_id.and(row.run_started_at);
        Self {
            state: row.state,
            due_at: row.due_at.map(|at| at.0),
            held_at: row.held_at.map(|at| at.0),
            attempt: row.attempt,
            last_error: row.last_error,
            run: run.map(|at| (at.0, counts)),
        }
    }
}

/// Reads what is known of a store. Without a transaction: nobody adds these figures up.
pub async fn detail(
    conn: &mut Conn,
    organization: &OrganizationId,
    store: StoreId,
    now: Time,
) -> Result<Detail, StoreError> {
    let due = conn.query(DUE_LOGS).bind(store.0).time(now);
    let due = Count::up_to(due.bind(MAX_COUNTED).number().await?, MAX_COUNTED);
    let job: Option<JobRow> = conn.query(JOB).bind(store.0).optional().await?;
    Ok(Detail {
        receipts: receipts(conn, store).await?,
        open: open(conn, store).await?,
        due,
        job: job.map(Job::from),
        runs: runs(conn, organization, store).await?,
        faults: faults(conn, store).await?,
    })
}

/// Counts a store's receipts.
pub async fn receipts(conn: &mut Conn, store: StoreId) -> Result<Count, StoreError> {
    let query = conn.query(LOGS).bind(store.0).bind(MAX_COUNTED);
    Ok(Count::up_to(query.number().await?, MAX_COUNTED))
}

/// Counts the events of a store that are not delivered yet, of the organization's newest thousand.
pub async fn pending_events(
    conn: &mut Conn,
    organization: &OrganizationId,
    store: StoreId,
) -> Result<i64, StoreError> {
    let query = conn.query(PENDING_EVENTS).bind(organization.as_str());
    query.bind(store.0).bind(MAX_LOOKED_AT).number().await
}

async fn open(conn: &mut Conn, store: StoreId) -> Result<Open, StoreError> {
    let query = conn.query(OPEN).bind(store.0).bind(MAX_COUNTED);
    let rows: Vec<(String, bool, i64)> = query.all().await?;
    let sum = |is: &dyn Fn(&str, bool) -> bool| {
        let meant = rows.iter().filter(|(status, rests, _)| is(status, *rests));
        meant.map(|(_, _, number)| number).sum::<i64>()
    };
    Ok(Open {
        pending: sum(&|status, _| status == "pending"),
        failed: sum(&|status, _| status == "failed"),
        rate_limited: sum(&|status, _| status == "rate_limited"),
        exhausted: sum(&|_, rests| rests),
        is_at_least: sum(&|_, _| true) >= MAX_COUNTED,
    })
}

async fn runs(
    conn: &mut Conn,
    organization: &OrganizationId,
    store: StoreId,
) -> Result<Vec<PastRun>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        id: Uuid,
        event: String,
        payload: JsonText,
        created_at: At,
        request_id: Option<String>,
    }
    let query = conn.query(RUNS).bind(organization.as_str()).bind(store.0);
    let rows: Vec<Row> = query.bind(MAX_LOOKED_AT).bind(MAX_SHOWN).all().await?;
    let run = |row: Row| PastRun {
        event_id: row.id,
        event: row.event,
        ended_at: row.created_at.0,
        request_id: row.request_id,
        payload: row.payload.0,
    };
    Ok(rows.into_iter().map(run).collect())
}

async fn faults(conn: &mut Conn, store: StoreId) -> Result<Vec<Fault>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        receipt: String,
        status: String,
        exhausted: bool,
        attempt: i64,
        last_error: String,
        updated_at: At,
    }
    let query = conn.query(FAULTS).bind(store.0).bind(MAX_LOOKED_AT);
    let rows: Vec<Row> = query.bind(MAX_SHOWN).all().await?;
    let fault = |row: Row| Fault {
        receipt: row.receipt,
        status: row.status,
        is_exhausted: row.exhausted,
        attempt: row.attempt,
        error: row.last_error,
        at: row.updated_at.0,
    };
    Ok(rows.into_iter().map(fault).collect())
}
