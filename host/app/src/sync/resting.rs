//! Receipts that rest because their adapter failed on them. When another revision serves, they become due again.

use std::{collections::BTreeMap, time::Duration};

use tracing::info;
use uuid::Uuid;
use wharf_domain::{LogId, Time};
use wharf_store::resting::{self, Resting};

use crate::{App, AppError};

/// Receipts that one step looks at.
const MAX_PER_STEP: i64 = 100;
/// Time between two of them: a new revision that fails, too, must not meet all of them at once.
const INTERVAL: Duration = Duration::from_millis(100);

/// A walk over what rests, begun anew whenever an adapter's revision changes. Any number may go on at a time.
#[derive(Default)]
pub(super) struct RestingWalk {
    /// The revisions that serve, as of the walk's beginning.
    serving: BTreeMap<String, String>,
    /// The place of the walk; none if it is complete.
    cursor: Option<LogId>,
}

impl RestingWalk {
    /// Looks at one page, if there is a walk to go on with.
    pub(super) async fn step(&mut self, app: &App) -> Result<(), AppError> {
        let serving = app.0.engine.adapter_digests();
        // Also at the first step, where nothing is known to serve: a revision may have changed while nobody ran.
        if serving != self.serving {
            (self.serving, self.cursor) = (serving, Some(LogId(Uuid::nil())));
        }
        let Some(cursor) = self.cursor else {
            return Ok(());
        };
        let mut conn = app.0.ledger.write().await?;
        let page = resting::page(&mut conn, cursor, MAX_PER_STEP).await?;
        let now = app.0.clock.now();
        let due = page.iter().filter(|log| self.is_outdated(log));
        // Spread by number: a page of a hundred becomes due over ten seconds.
        let due: Vec<(LogId, Time)> = (0..)
            .zip(due)
            .map(|(number, log)| (log.id, now + INTERVAL * number))
            .collect();
        if !due.is_empty() {
            let woken = resting::wake(&mut conn, due, now).await?;
            info!(receipts = woken, "resting_receipts_woken");
        }
        let is_last = (page.len() as u64) < MAX_PER_STEP.unsigned_abs();
        self.cursor = page.last().filter(|_| !is_last).map(|log| log.id);
        Ok(())
    }

    /// Tells if another revision serves than the one that failed. Where none serves, there is nothing to try.
    fn is_outdated(&self, log: &Resting) -> bool {
        let serving = self.serving.get(&log.marketplace);
        serving.is_some_and(|serving| log.plugin_digest.as_ref() != Some(serving))
    }
}
