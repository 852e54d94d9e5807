//! The ledger of sync jobs. One row a store: `idle`, `queued` or `running`. A claim raises the fence and takes a lease;
//! every later write names the fence and is refused when somebody else has claimed since.

use std::time::Duration;

use uuid::Uuid;
use wharf_domain::{Parties, RequestId, RunId, StoreId, SyncCounts, Time};

use crate::{
    Conn, StoreError,
    dialect::statements,
    rows::{Rows, without_nul},
    values::At,
};

statements! {
    // Idle becomes queued; running becomes dirty, and so does a queued one that is in the middle of a run; queued
    // stays.
    ENQUEUE = ["insert into sync_jobs (store_id, state, due_at, updated_at)
        select store_id, 'queued', due_at, due_at from" rows(r, store_id uuid, due_at time) "where true
        on conflict (store_id) do update set
            dirty = (sync_jobs.state <> 'idle'),
            due_at = case when sync_jobs.state = 'idle' then excluded.due_at else sync_jobs.due_at end,
            state = case when sync_jobs.state = 'idle' then 'queued' else sync_jobs.state end,
            updated_at = excluded.updated_at
        where sync_jobs.state = 'idle'
            or (not sync_jobs.dirty and (sync_jobs.state = 'running' or sync_jobs.run_id is not null))
        returning store_id, dirty"];
    // Queued jobs that are due, and running ones whose lease has ended: the longest due, a few of each pair.
    WAITING = ["select store_id, marketplace, organization_id from
        (select d.store_id, d.due_at, s.marketplace, s.organization_id,
                row_number() over (partition by s.marketplace, s.organization_id order by d.due_at) as number
            from (select store_id, due_at from sync_jobs where due_at <= $1 order by due_at limit $2) d
            join stores s on s.id = d.store_id) w
        where number <= $3 order by due_at limit $4"];
    // Due is asked again: the list of those that wait is old by now.
    // A run in progress keeps its mark: it works on what was due when it began.
    CLAIM = ["with chosen as materialized (select j.store_id from sync_jobs j
            where j.store_id in (select store_id from" rows(q, store_id uuid) ") and j.due_at <= $2" skip_locked ")
        update sync_jobs set state = 'running', fence = fence + 1, dirty = (dirty and run_id is not null),
            due_at = r.due_at, held_at = null, claimed_by = r.worker, attempt = attempt + 1, updated_at = r.at
        from" rows(r, store_id uuid, due_at time, worker text, at time)
        "where sync_jobs.store_id = r.store_id and sync_jobs.store_id in (select store_id from chosen)
        returning sync_jobs.store_id, fence, attempt, run_id, run_started_at, run_request_id, processed, succeeded, failed,
            rate_limited"];
    // Whoever asked first is the one; the run that is queued is one and the same for all.
    REQUESTED = ["update sync_jobs set request_id = $2 where store_id = $1 and request_id is null"];
    // A job that has ended keeps its fence, so the state is asked, too, here and below.
    RENEW = ["update sync_jobs set due_at = $3 where store_id = $1 and fence = $2 and state = 'running'"];
    // The request is the run's from now on, so that another can ask for the next.
    START_RUN = ["update sync_jobs set run_id = $3, run_started_at = $4, processed = 0, succeeded = 0, failed = 0,
            rate_limited = 0, updated_at = $4, run_request_id = coalesce(request_id, $5), request_id = null
        where store_id = $1 and fence = $2 and state = 'running'
        returning run_request_id"];
    // The sums stand in the row, so that a run that a crash interrupted goes on where its last commit ended.
    ADVANCE = ["update sync_jobs set processed = processed + $3, succeeded = succeeded + $4, failed = failed + $5,
            rate_limited = rate_limited + $6, due_at = $7, updated_at = $8
        where store_id = $1 and fence = $2 and state = 'running'
        returning processed, succeeded, failed, rate_limited"];
    // Back to idle, or to queued where work arrived meanwhile (`dirty`) or is left ($3).
    FINISH = ["update sync_jobs set updated_at = $4, state = case when dirty or $3 = 1 then 'queued' else 'idle' end,
            due_at = case when dirty or $3 = 1 then" time("$4") "else null end,
            dirty = (1 = 0), attempt = 0, claimed_by = null, last_error = null, run_id = null, run_started_at = null,
            request_id = case when dirty then request_id else null end, run_request_id = null
        where store_id = $1 and fence = $2 and state = 'running'
        returning state"];
    // Back to queued, to be run at $3. The run in progress is kept.
    GIVE_BACK = ["update sync_jobs set state = 'queued', due_at = $3, attempt = case when $4 = 1 then attempt else attempt - 1 end,
            claimed_by = null, last_error = $5, updated_at = $6
        where store_id = $1 and fence = $2 and state = 'running'"];
    // Without a lock: ringing for a job that is claimed meanwhile does no harm.
    DUE = ["select store_id from sync_jobs where due_at <= $1 order by due_at limit $2"];
}

/// Queues the stores' jobs. Returns those that are queued now and were not before; a running job of the others is
/// marked to run again.
pub async fn enqueue(
    conn: &mut Conn,
    stores: impl IntoIterator<Item = StoreId>,
    now: Time,
) -> Result<Vec<StoreId>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        store_id: Uuid,
        dirty: bool,
    }
    let mut rows = Rows::new(conn);
    for store in stores {
        rows.push().uuid("store_id", store.0).time("due_at", now);
    }
    let rows: Vec<Row> = conn.query(ENQUEUE).rows(&rows).all().await?;
    Ok(rows
        .into_iter()
        // Dirty: it is running and will see to its new work itself, so nobody needs to be rung for.
        .filter(|row| !row.dirty)
        .map(|row| StoreId(row.store_id))
        .collect())
}

/// Notes the request that asked for the store's next run, if it is the first to ask. In the transaction that queues it.
pub async fn note_request(
    conn: &mut Conn,
    store: StoreId,
    request: &RequestId,
) -> Result<(), StoreError> {
    let query = conn.query(REQUESTED).bind(store.0);
    query.bind(request.as_str()).run().await.map(drop)
}

/// The right to work on one store, until the lease ends or somebody claims it after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The store.
    pub store_id: StoreId,
    /// The number of the claim.
    pub number: i64,
}

/// A claimed job.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The fence, which every write must name.
    pub fence: Fence,
    /// Claims since the last run that ended well, this one included.
    pub attempt: i64,
    /// The run that an earlier claim began and did not end.
    pub run: Option<Run>,
}

/// A run in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The request that asked for it; where nobody did, its own id.
    pub request_id: RequestId,
    /// The time when it began: it works on what was due then.
    pub started_at: Time,
    /// Its sums so far.
    pub counts: SyncCounts,
}

#[derive(FromRow)]
struct CountsRow {
    processed: i64,
    succeeded: i64,
    failed: i64,
    rate_limited: i64,
}

impl From<CountsRow> for SyncCounts {
    fn from(row: CountsRow) -> Self {
        Self {
            processed: row.processed,
            success: row.succeeded,
            failed: row.failed,
            rate_limited: row.rate_limited,
        }
    }
}

/// Due jobs that are looked at for a claim. A queue may be any length; what is behind these comes closer with each
/// claim.
const MAX_SCANNED: i64 = 500;
/// Of these, jobs that are chosen from.
const MAX_CANDIDATES: i64 = 128;

/// The stores whose jobs could be claimed now, longest due first, with their marketplace and organization: at most
/// `limit` of each such pair.
pub async fn waiting(
    conn: &mut Conn,
    limit: i64,
    now: Time,
) -> Result<Vec<(StoreId, Parties)>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        store_id: Uuid,
        marketplace: String,
        organization_id: String,
    }
    let query = conn.query(WAITING).time(now).bind(MAX_SCANNED);
    let rows: Vec<Row> = query.bind(limit).bind(MAX_CANDIDATES).all().await?;
    let waiting = rows.into_iter().map(|row| {
        let parties = Parties {
            marketplace: row.marketplace,
            organization: row.organization_id,
        };
        (StoreId(row.store_id), parties)
    });
    Ok(waiting.collect())
}

/// Claims the jobs of these stores that are still due for `worker`, until `now + lease`. In any order.
pub async fn claim(
    conn: &mut Conn,
    worker: &str,
    lease: Duration,
    stores: impl IntoIterator<Item = StoreId>,
    now: Time,
) -> Result<Vec<Claimed>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        store_id: Uuid,
        fence: i64,
        attempt: i64,
        run_id: Option<Uuid>,
        run_started_at: Option<At>,
        run_request_id: Option<String>,
        #[sqlx(flatten)]
        counts: CountsRow,
    }
    let mut chosen = Rows::new(conn);
    for store in stores {
        chosen
            .push()
            .uuid("store_id", store.0)
            .time("due_at", now + lease)
            .text("worker", worker)
            .time("at", now);
    }
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let query = conn.query(CLAIM).rows(&chosen).time(now);
    let rows: Vec<Row> = query.all().await?;
    Ok(rows
        .into_iter()
        .map(|row| Claimed {
            fence: Fence {
                store_id: StoreId(row.store_id),
                number: row.fence,
            },
            attempt: row.attempt,
            run: row
                .run_id
                .zip(row.run_started_at)
                .map(|(id, started_at)| Run {
                    id: RunId(id),
                    // A release of before began it.
                    request_id: row
                        .run_request_id
                        .map_or_else(|| id.into(), RequestId::from_stored),
                    started_at: started_at.0,
                    counts: row.counts.into(),
                }),
        })
        .collect())
}

fn held(rows: u64) -> Result<(), StoreError> {
    // No row has this fence any more: somebody else claimed the job, and this worker must stop.
    if rows == 0 {
        Err(StoreError::FenceLost)
    } else {
        Ok(())
    }
}

/// Prolongs the lease.
pub async fn renew(conn: &mut Conn, fence: Fence, until: Time) -> Result<(), StoreError> {
    held(
        conn.query(RENEW)
            .bind(fence.store_id.0)
            .bind(fence.number)
            .time(until)
            .run()
            .await?,
    )
}

/// Begins a run. In the transaction that stores its `sync.started` event.
pub async fn start_run(
    conn: &mut Conn,
    fence: Fence,
    id: RunId,
    now: Time,
) -> Result<Run, StoreError> {
    #[derive(FromRow)]
    struct Row {
        run_request_id: String,
    }
    let query = conn
        .query(START_RUN)
        .bind(fence.store_id.0)
        .bind(fence.number)
        .bind(id.0)
        .time(now)
        .bind(id.to_string());
    let row: Option<Row> = query.optional().await?;
    let row = row.ok_or(StoreError::FenceLost)?;
    Ok(Run {
        id,
        request_id: RequestId::from_stored(row.run_request_id),
        started_at: now,
        counts: SyncCounts::default(),
    })
}

/// Takes the store's row and then the fence for the rest of this transaction, adds a chunk's counts to the run and
/// prolongs the lease. Returns the run's sums. Everything that a chunk writes follows in the same transaction.
pub async fn hold(
    conn: &mut Conn,
    fence: Fence,
    chunk: SyncCounts,
    lease_until: Time,
    now: Time,
) -> Result<SyncCounts, StoreError> {
    // The store's row before the job's: imports lock stores first, too.
    let locked = crate::stores::lock(conn, std::iter::once(fence.store_id)).await;
    locked.map_err(|error| match error {
        // Its job went with it.
        StoreError::StoreRemoved => StoreError::FenceLost,
        other => other,
    })?;
    let row: Option<CountsRow> = conn
        .query(ADVANCE)
        .bind(fence.store_id.0)
        .bind(fence.number)
        .bind(chunk.processed)
        .bind(chunk.success)
        .bind(chunk.failed)
        .bind(chunk.rate_limited)
        .time(lease_until)
        .time(now)
        .optional()
        .await?;
    row.map(SyncCounts::from).ok_or(StoreError::FenceLost)
}

/// Ends a claim that went well. `more` queues the job again at once. Returns whether it is queued now.
pub async fn finish(
    conn: &mut Conn,
    fence: Fence,
    more: bool,
    now: Time,
) -> Result<bool, StoreError> {
    #[derive(FromRow)]
    struct Row {
        state: String,
    }
    let row: Option<Row> = conn
        .query(FINISH)
        .bind(fence.store_id.0)
        .bind(fence.number)
        .bind(i64::from(more))
        .time(now)
        .optional()
        .await?;
    row.map(|row| row.state == "queued")
        .ok_or(StoreError::FenceLost)
}

/// The reason why a job is given back before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveBack<'a> {
    /// Another is to go on: the worker is shutting down, or others wait for the place. The claim does not count as an
    /// attempt.
    Unfinished,
    /// It failed with this error.
    Failed(&'a str),
}

/// Gives a job back, to be run again at `due_at`.
pub async fn give_back(
    conn: &mut Conn,
    fence: Fence,
    why: GiveBack<'_>,
    due_at: Time,
    now: Time,
) -> Result<(), StoreError> {
    let (counts, error) = match why {
        // The claim has counted itself, so the statement takes it back.
        GiveBack::Unfinished => (0i64, None),
        GiveBack::Failed(error) => (1, Some(without_nul(error))),
    };
    let query = conn
        .query(GIVE_BACK)
        .bind(fence.store_id.0)
        .bind(fence.number)
        .time(due_at)
        .bind(counts);
    held(query.bind(error).time(now).run().await?)
}

/// The stores whose jobs could be claimed now, longest due first: for the sweeper, which rings for them again.
pub async fn due(conn: &mut Conn, limit: i64, now: Time) -> Result<Vec<StoreId>, StoreError> {
    let due = conn.query(DUE).time(now).bind(limit).ids().await?;
    Ok(due.into_iter().map(StoreId).collect())
}
