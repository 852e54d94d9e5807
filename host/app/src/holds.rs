//! Holds: nobody is asked for what is held. The table is the truth and each process keeps a copy, so that the way of an
//! import pays no query for it.
//!
//! The copy is at most [`LOOK_EVERY`] old, and the way of the news as well; nothing is rung. Where the database does not
//! answer, the copy stands for [`MAX_AGE`]: with the same database nothing is imported and no job is written meanwhile.
//! Behind that, and before the first look, whoever wants to ask a marketplace looks himself, and fails with the database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, watch};
use tracing::{info, warn};
use uuid::Uuid;
use wharf_domain::{Held, HoldSide, HoldTarget, OrganizationId, StoreId};
use wharf_store::{
    StoreError,
    holds::{self, Hold, NewHold},
    stores::{Store, list, removal},
};

use crate::{App, AppError, Inner, entropy::new_id, failpoint};

/// Time between two looks at whether holds have changed. A hold shall be seen everywhere within two seconds, of which a
/// slow database may take its part.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The age up to which the copy is believed.
const MAX_AGE: Duration = Duration::from_secs(5);
/// Time that a look may take. One that hangs shall not keep others from looking.
const MAX_LOOK: Duration = Duration::from_secs(5);

/// This process's copy of the holds.
pub(crate) struct Holds {
    copy: watch::Sender<Copy>,
    /// One look at a time: an older one must not overwrite a newer.
    looking: Mutex<()>,
}

#[derive(Clone, Default)]
struct Copy {
    held: Arc<Held>,
    /// The number of changes that it knows of, and when it was the last; none before the first look.
    of: Option<(i64, Instant)>,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            copy: watch::Sender::new(Copy::default()),
            looking: Mutex::default(),
        }
    }
}

impl Copy {
    fn is_fresh(&self) -> bool {
        self.of.is_some_and(|(_, at)| at.elapsed() < MAX_AGE)
    }
}

/// Who places or ends a hold, or removes a store.
#[derive(Clone, Copy, Debug)]
pub enum Acting<'a> {
    /// Somebody of the organization that owns the store, with a name for people. They find its stores alone.
    Organization(&'a OrganizationId, &'a str),
    /// An operator, with a name for people.
    Operator(&'a str),
}

impl<'a> Acting<'a> {
    /// The organization whose stores are found; `None` for all.
    pub(crate) const fn organization(self) -> Option<&'a OrganizationId> {
        match self {
            Self::Organization(organization, _) => Some(organization),
            Self::Operator(_) => None,
        }
    }

    const fn side(self) -> HoldSide {
        match self {
            Self::Organization(..) => HoldSide::Organization,
            Self::Operator(_) => HoldSide::Operator,
        }
    }

    pub(crate) const fn name(self) -> &'a str {
        match self {
            Self::Organization(_, name) | Self::Operator(name) => name,
        }
    }
}

/// The holds by which a store is held; none if it is not.
#[derive(Clone, Debug)]
pub struct StoreHolds {
    /// The store.
    pub store_id: StoreId,
    /// Its own, its organization's and its marketplace's.
    pub holds: Vec<Hold>,
}

/// A page of holds.
#[derive(Clone, Debug)]
pub struct HoldPage {
    /// Those on it, newest first.
    pub holds: Vec<Hold>,
    /// The place where the next page begins; `None` on the last.
    pub next: Option<Uuid>,
}

impl App {
    /// Everything that is held. Reads the database only where the copy is old.
    pub(crate) async fn held(&self) -> Result<Arc<Held>, StoreError> {
        {
            let copy = self.0.holds.copy.borrow();
            if copy.is_fresh() {
                return Ok(copy.held.clone());
            }
        }
        let _one = self.0.holds.looking.lock().await;
        // Whoever looked meanwhile looked for all that wait here.
        let copy = self.0.holds.copy.borrow().clone();
        if copy.is_fresh() {
            return Ok(copy.held);
        }
        self.0.look_at_holds().await
    }

    /// True where nobody may be asked on behalf of this store.
    pub(crate) async fn holds(&self, store: &Store) -> Result<bool, StoreError> {
        Ok(is_held(&*self.held().await?, store))
    }

    /// Waits until the store is held.
    pub(crate) async fn until_held(&self, store: &Store) {
        let mut copy = self.0.holds.copy.subscribe();
        let held = copy.wait_for(|copy| is_held(&copy.held, store)).await;
        // The sender is this host's: it lives for as long as anybody can wait here.
        debug_assert!(held.is_ok());
    }

    /// The number of changes that the copy knows of.
    pub(crate) fn known_hold_changes(&self) -> Option<i64> {
        self.0.holds.copy.borrow().of.map(|(number, _)| number)
    }

    /// Holds a store: its marketplace is asked nothing for it until it is resumed. Safe to repeat; the first reason stays.
    ///
    /// # Errors
    /// Whoever acts has no such store, or as many holds as it may have.
    pub async fn hold_store(
        &self,
        by: Acting<'_>,
        store: StoreId,
        reason: Option<&str>,
    ) -> Result<StoreHolds, AppError> {
        self.place(by, &HoldTarget::Store(store), reason).await?;
        self.store_holds(by, store).await
    }

    /// Ends one's own hold of a store. Another side's stays, and so do those of its organization and marketplace.
    ///
    /// # Errors
    /// Whoever acts has no such store.
    pub async fn resume_store(
        &self,
        by: Acting<'_>,
        store: StoreId,
    ) -> Result<StoreHolds, AppError> {
        self.end(by, &HoldTarget::Store(store)).await?;
        self.store_holds(by, store).await
    }

    /// Holds a store, all of an organization or all at a marketplace, for operators. Safe to repeat; the first reason
    /// stays.
    ///
    /// # Errors
    /// There is no such store, or there are as many holds as there may be.
    pub async fn hold(
        &self,
        operator: &str,
        target: &HoldTarget,
        reason: Option<&str>,
    ) -> Result<Hold, AppError> {
        self.place(Acting::Operator(operator), target, reason).await
    }

    /// Ends an operator's hold. Returns false if there was none.
    ///
    /// # Errors
    /// There is no such store.
    pub async fn resume(&self, operator: &str, target: &HoldTarget) -> Result<bool, AppError> {
        self.end(Acting::Operator(operator), target).await
    }

    /// A page of holds, newest first; of one kind, or all.
    pub async fn list_holds(
        &self,
        what: Option<&str>,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<HoldPage, AppError> {
        // One more than the page shows tells whether there is a next one.
        let one_more = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let mut conn = self.0.ledger.read().await?;
        let mut holds = holds::page(&mut conn, what, before, one_more).await?;
        let is_last = holds.len() <= limit;
        holds.truncate(limit);
        let next = holds.last().filter(|_| !is_last).map(|hold| hold.id);
        Ok(HoldPage { holds, next })
    }

    async fn store_holds(&self, by: Acting<'_>, store: StoreId) -> Result<StoreHolds, AppError> {
        let mut conn = self.0.ledger.read().await?;
        let found = list::one(&mut conn, by.organization(), store).await?;
        let found = found.ok_or(AppError::StoreNotFound)?;
        let (organization, marketplace) = (&found.organization_id, &found.marketplace);
        let holds = holds::of_store(&mut conn, store, organization, marketplace).await?;
        Ok(StoreHolds {
            store_id: store,
            holds,
        })
    }

    async fn place(
        &self,
        by: Acting<'_>,
        target: &HoldTarget,
        reason: Option<&str>,
    ) -> Result<Hold, AppError> {
        let now = self.0.clock.now();
        let new = NewHold {
            id: new_id(now),
            target,
            owner: by.organization(),
            reason,
            placed_by: by.name(),
        };
        let mut tx = self.0.ledger.begin().await?;
        check_store(&mut tx, by, target).await?;
        let hold = holds::place(&mut tx, &new, now).await?;
        let hold = hold.ok_or(AppError::TooManyHolds)?;
        tx.commit().await?;
        info!(what = hold.what, name = hold.name, by = by.name(), "held");
        self.look_at_once().await;
        Ok(hold)
    }

    async fn end(&self, by: Acting<'_>, target: &HoldTarget) -> Result<bool, AppError> {
        let mut tx = self.0.ledger.begin().await?;
        check_store(&mut tx, by, target).await?;
        let ended = holds::end(&mut tx, target, by.side()).await?;
        tx.commit().await?;
        failpoint::pass("resume.commit.after");
        if ended {
            info!(
                what = target.kind(),
                name = target.name(),
                by = by.name(),
                "resumed"
            );
        }
        self.look_at_once().await;
        // Also where there was none: a repeat finishes what a killed process began. Every scheduler does so, too.
        let mut after = Some(StoreId(Uuid::nil()));
        while let Some(from) = after {
            after = self.wake_resumed(from).await?;
        }
        Ok(ended)
    }

    /// Makes a page of jobs due whose stores are not held any more, and rings for them. Returns where the next page begins.
    pub(crate) async fn wake_resumed(&self, after: StoreId) -> Result<Option<StoreId>, AppError> {
        let mut tx = self.0.ledger.begin().await?;
        let woken = holds::wake(&mut tx, after, self.0.clock.now()).await?;
        tx.commit().await?;
        for store in woken.stores {
            self.ring_for(store);
        }
        Ok(woken.next)
    }

    /// This process sees its own change at once. Where it cannot look, it sees it with the next look.
    pub(crate) async fn look_at_once(&self) {
        let _one = self.0.holds.looking.lock().await;
        let _ = self.0.look_at_holds().await;
    }
}

/// Locks the row of a store that is to be held or resumed, before its holds: a removal does so in the same order.
async fn check_store(
    tx: &mut wharf_store::Tx,
    by: Acting<'_>,
    target: &HoldTarget,
) -> Result<(), AppError> {
    match target {
        HoldTarget::Store(id) if !removal::live(tx, by.organization(), *id).await? => {
            Err(AppError::StoreNotFound)
        }
        _ => Ok(()),
    }
}

fn is_held(held: &Held, store: &Store) -> bool {
    let (organization, marketplace) = (store.organization_id.as_str(), store.marketplace.as_str());
    held.holds(store.id, organization, marketplace)
}

impl Inner {
    /// Looks whether holds have changed, and reads them if so. One at a time.
    async fn look_at_holds(&self) -> Result<Arc<Held>, StoreError> {
        // The time before the look: the copy is as old as the question.
        let at = Instant::now();
        let known = self.holds.copy.borrow().of.map(|(number, _)| number);
        let mut conn = self.ledger.read().await?;
        let mut number = holds::changes(&mut conn).await?;
        let mut held = None;
        if Some(number) != known {
            let (of, all) = holds::held(&mut conn).await?;
            (number, held) = (of, Some(Arc::new(all)));
        }
        self.holds.copy.send_if_modified(|copy| {
            copy.of = Some((number, at));
            let has_changed = held.is_some();
            if let Some(held) = held {
                copy.held = held;
                self.metrics.holds(&copy.held);
            }
            has_changed
        });
        Ok(self.holds.copy.borrow().held.clone())
    }
}

/// Looks for changes for as long as the host lives.
pub(crate) fn keep_fresh(host: &Arc<Inner>) {
    // Weak: this task must not keep a host alive that everybody else has dropped.
    let host = Arc::downgrade(host);
    tokio::spawn(async move {
        let mut was_well = true;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(host) = host.upgrade() else { return };
            let look = async {
                let _one = host.holds.looking.lock().await;
                host.look_at_holds().await
            };
            let looked = tokio::time::timeout(MAX_LOOK, look).await;
            let is_well = matches!(looked, Ok(Ok(_)));
            // Once, and not twice a second for as long as the database is away.
            if was_well && !is_well {
                warn!("holds cannot be looked at; those that are known stay");
            }
            was_well = is_well;
        }
    });
}
