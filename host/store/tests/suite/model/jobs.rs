//! Sync jobs: enqueue, claim, tick, renew, write, finish, give back, by live and by stale workers.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use wharf_domain::{RunId, StoreId, SyncCounts, Time};
use wharf_store::{
    StoreError,
    jobs::{self, Fence, GiveBack},
};
use wharf_tests::Backend;

use super::run_cases;
use crate::fixture::{Fixture, LEASE, NOW, SECOND, random_v7};

const STORES: usize = 3;

/// One thing that happens. A claim is chosen among all that were ever made, so most are stale.
#[derive(Clone, Copy, Debug)]
enum Step {
    Enqueue(usize),
    Claim(usize),
    Tick(u64),
    Renew(usize),
    StartRun(usize),
    Write(usize),
    Finish(usize, bool),
    GiveBack(usize, bool),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..STORES).prop_map(Step::Enqueue),
        (1..4_usize).prop_map(Step::Claim),
        prop_oneof![Just(0), Just(1), Just(10), Just(30), Just(31)].prop_map(Step::Tick),
        any::<usize>().prop_map(Step::Renew),
        any::<usize>().prop_map(Step::StartRun),
        any::<usize>().prop_map(Step::Write),
        (any::<usize>(), any::<bool>()).prop_map(|(claim, more)| Step::Finish(claim, more)),
        (any::<usize>(), any::<bool>()).prop_map(|(claim, failed)| Step::GiveBack(claim, failed)),
    ]
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Queued,
    Running,
}

#[derive(Clone, Debug, Default)]
struct Job {
    state: State,
    dirty: bool,
    fence: i64,
    due_at: Option<Time>,
    attempt: i64,
    run: Option<(RunId, Time)>,
    sums: SyncCounts,
}

#[derive(Default)]
struct Model {
    jobs: BTreeMap<StoreId, Job>,
    claims: Vec<Fence>,
}

impl Model {
    fn is_due(job: &Job, now: Time) -> bool {
        job.due_at.is_some_and(|at| at <= now)
    }

    fn due(&self, now: Time) -> Vec<StoreId> {
        self.jobs
            .iter()
            .filter(|(_, job)| Self::is_due(job, now))
            .map(|(id, _)| *id)
            .collect()
    }

    fn enqueue(&mut self, store: StoreId, now: Time) -> Vec<StoreId> {
        let job = self.jobs.entry(store).or_default();
        match job.state {
            State::Idle => {
                (job.state, job.due_at, job.dirty) = (State::Queued, Some(now), false);
                vec![store]
            }
            State::Running => {
                job.dirty = true;
                vec![]
            }
            // In the middle of a run, which works on what was due when it began.
            State::Queued => {
                job.dirty |= job.run.is_some();
                vec![]
            }
        }
    }

    /// Whoever was due longest goes first; among equals either may.
    fn claimed(&mut self, claimed: &[jobs::Claimed], limit: usize, now: Time) -> Result<()> {
        let due = self.due(now);
        ensure!(
            claimed.len() == due.len().min(limit),
            "{claimed:?} of {due:?}"
        );
        let due_at = |id: &StoreId| self.jobs.get(id).and_then(|job| job.due_at);
        let taken: Vec<_> = claimed.iter().map(|claim| claim.fence.store_id).collect();
        let latest = taken.iter().filter_map(due_at).max();
        let passed_over = due
            .iter()
            .filter(|id| !taken.contains(id))
            .filter_map(due_at)
            .min();
        ensure!(
            passed_over.is_none() || latest <= passed_over,
            "not the longest due: {claimed:?}"
        );
        for claim in claimed {
            let job = self
                .jobs
                .get_mut(&claim.fence.store_id)
                .context("an unknown job")?;
            ensure!(Self::is_due(job, now), "not due: {claim:?}");
            job.dirty &= job.run.is_some();
            (job.fence, job.attempt, job.state) = (job.fence + 1, job.attempt + 1, State::Running);
            job.due_at = Some(now + LEASE);
            ensure!(
                (claim.fence.number, claim.attempt) == (job.fence, job.attempt),
                "{claim:?} of {job:?}"
            );
            ensure!(
                claim.run.as_ref().map(|run| (run.id, run.started_at)) == job.run,
                "{claim:?} of {job:?}"
            );
            ensure!(
                claim.run.as_ref().is_none_or(|run| run.counts == job.sums),
                "{claim:?} of {job:?}"
            );
            self.claims.push(claim.fence);
        }
        Ok(())
    }

    /// A claim, and the job if the claim still holds it.
    fn hold(&mut self, choice: usize) -> Option<(Fence, Option<&mut Job>)> {
        let fence = *self.claims.get(choice.checked_rem(self.claims.len())?)?;
        let job = self.jobs.get_mut(&fence.store_id);
        Some((
            fence,
            job.filter(|job| job.fence == fence.number && job.state == State::Running),
        ))
    }
}

/// Both must agree on whether the claim holds.
fn agree<T>(held: bool, result: Result<T, StoreError>) -> Result<Option<T>> {
    match result {
        Ok(value) => {
            ensure!(held, "a stale claim was let through");
            Ok(Some(value))
        }
        Err(StoreError::FenceLost) => {
            ensure!(!held, "a claim that holds was refused");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn apply(
    ledger: &Fixture,
    model: &mut Model,
    stores: &[StoreId],
    step: Step,
    now: &mut Time,
) -> Result<()> {
    let mut conn = ledger.conn().await?;
    match step {
        Step::Enqueue(store) => {
            let queued = jobs::enqueue(&mut conn, [stores[store]], *now).await?;
            ensure!(queued == model.enqueue(stores[store], *now), "{queued:?}");
        }
        Step::Claim(limit) => {
            let claimed = crate::fixture::claim(&mut conn, "w", LEASE, limit, *now).await?;
            model.claimed(&claimed, limit, *now)?;
        }
        Step::Tick(seconds) => *now = *now + Duration::from_secs(seconds),
        Step::Renew(choice) => {
            let Some((fence, job)) = model.hold(choice) else {
                return Ok(());
            };
            agree(
                job.is_some(),
                jobs::renew(&mut conn, fence, *now + LEASE).await,
            )?;
            job.into_iter()
                .for_each(|job| job.due_at = Some(*now + LEASE));
        }
        Step::StartRun(choice) => {
            let Some((fence, job)) = model.hold(choice) else {
                return Ok(());
            };
            let id = RunId(random_v7());
            agree(
                job.is_some(),
                jobs::start_run(&mut conn, fence, id, *now).await.map(drop),
            )?;
            job.into_iter()
                .for_each(|job| (job.run, job.sums) = (Some((id, *now)), SyncCounts::default()));
        }
        Step::Write(choice) => {
            let Some((fence, job)) = model.hold(choice) else {
                return Ok(());
            };
            drop(conn);
            let chunk = SyncCounts {
                processed: 4,
                success: 1,
                failed: 2,
                rate_limited: 1,
            };
            let mut tx = ledger.begin().await?;
            let sums = agree(
                job.is_some(),
                jobs::hold(&mut tx, fence, chunk, *now + LEASE, *now).await,
            )?;
            tx.commit().await?;
            if let Some(job) = job {
                let add = |sum: &mut i64, more| *sum += more;
                add(&mut job.sums.processed, 4);
                add(&mut job.sums.success, 1);
                add(&mut job.sums.failed, 2);
                add(&mut job.sums.rate_limited, 1);
                job.due_at = Some(*now + LEASE);
                ensure!(sums == Some(job.sums), "{sums:?} of {job:?}");
            }
        }
        Step::Finish(choice, more) => {
            let Some((fence, job)) = model.hold(choice) else {
                return Ok(());
            };
            let again = agree(
                job.is_some(),
                jobs::finish(&mut conn, fence, more, *now).await,
            )?;
            if let Some(job) = job {
                let queued = job.dirty || more;
                job.state = if queued { State::Queued } else { State::Idle };
                job.due_at = queued.then_some(*now);
                (job.dirty, job.attempt, job.run) = (false, 0, None);
                ensure!(again == Some(queued), "{again:?} of {job:?}");
            }
        }
        Step::GiveBack(choice, failed) => {
            let Some((fence, job)) = model.hold(choice) else {
                return Ok(());
            };
            let why = if failed {
                GiveBack::Failed("no")
            } else {
                GiveBack::Unfinished
            };
            agree(
                job.is_some(),
                jobs::give_back(&mut conn, fence, why, *now + SECOND, *now).await,
            )?;
            if let Some(job) = job {
                (job.state, job.due_at) = (State::Queued, Some(*now + SECOND));
                job.attempt -= i64::from(!failed);
            }
        }
    }
    Ok(())
}

pub(super) async fn jobs_follow_the_model(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut stores = Vec::new();
    for number in 0..STORES {
        stores.push(ledger.register("org", &format!("shop-{number}")).await?.0);
    }
    run_cases(steps(), async |steps| {
        ledger.sql.execute("delete from sync_jobs").await?;
        let (mut model, mut now) = (Model::default(), NOW);
        for step in steps {
            apply(&ledger, &mut model, &stores, step, &mut now)
                .await
                .with_context(|| format!("{step:?}"))?;
            let mut due = jobs::due(&mut ledger.conn().await?, 100, now).await?;
            due.sort();
            ensure!(due == model.due(now), "due after {step:?}: {due:?}");
        }
        // Whatever was begun and abandoned can be claimed when its lease has ended.
        let late = now + LEASE * 2;
        let claimed =
            crate::fixture::claim(&mut ledger.conn().await?, "last", LEASE, 100, late).await?;
        ensure!(claimed.len() == model.due(late).len(), "work was lost");
        Ok(())
    })
}
