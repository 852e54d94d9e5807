//! Jobs of held stores: put off while they are held, due again when that ends.

use std::time::Duration;

use uuid::Uuid;
use wharf_domain::{Held, Parties, StoreId};
use wharf_store::{StoreError, holds};

use crate::{App, AppError};

/// The wait of a job whose store is held. Ending the hold ends it; where all that wakes it is killed, this does.
const HELD_WAIT: Duration = Duration::from_secs(600);
/// Transactions of one look, each of `holds::MAX_JOBS`: an organization with ten thousand due stores stands in nobody's
/// way for longer.
const MAX_PAGES: usize = 20;

/// True of a job that waits for a hold to end.
pub(super) fn is_held(held: &Held, (store, parties): &(StoreId, Parties)) -> bool {
    held.holds(*store, &parties.organization, &parties.marketplace)
}

/// Puts off what is due and held, or it would stand before everybody else's work for ever.
pub(super) async fn put_off(app: &App) -> Result<(), StoreError> {
    for _ in 0..MAX_PAGES {
        let now = app.0.clock.now();
        let mut tx = app.0.ledger.begin().await?;
        let jobs = holds::put_off(&mut tx, now + HELD_WAIT, now).await?;
        tx.commit().await?;
        if jobs == 0 {
            break;
        }
    }
    Ok(())
}

/// A walk over the jobs that were put off, begun anew whenever a hold was placed or ended: whoever ended it may have been
/// killed before it woke them all.
#[derive(Default)]
pub(super) struct ResumeWalk {
    /// The changes of holds that the walk knows of.
    changes: Option<i64>,
    /// The place of the walk; none if it is complete.
    after: Option<StoreId>,
}

impl ResumeWalk {
    /// Looks at one page, if there is a walk to go on with.
    pub(super) async fn step(&mut self, app: &App) -> Result<(), AppError> {
        let changes = app.known_hold_changes();
        // Also at the first step: a hold may have ended while nobody ran.
        if changes != self.changes {
            (self.changes, self.after) = (changes, Some(StoreId(Uuid::nil())));
        }
        if let Some(after) = self.after {
            self.after = app.wake_resumed(after).await?;
        }
        Ok(())
    }
}
