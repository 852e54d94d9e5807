//! Requests that are not idempotent by themselves, and whose clients name them by a key (`Idempotency-Key`): each is
//! carried out once, and a repeat gets the answer of the first.
//!
//! The key is claimed before the work, so that a repeat that comes meanwhile is told so; the answer is stored in the
//! transaction that does the work, so that no crash comes between the two. Only successes are kept: what was refused has
//! changed nothing, and may be tried again under the same key.

use std::{sync::Arc, time::Duration};

use wharf_domain::Time;
use wharf_store::{
    Conn, canary,
    idempotency::{self, Begun, Claim, KeyedRequest},
};

use crate::{App, AppError, entropy::random};

/// The time that an answer is kept, counted from the request's beginning.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Whoever carries a request out for this long is gone: longer than an answer may take (60 s).
const MAX_WORK: Duration = Duration::from_secs(90);
/// Keys that one organization may have. Each is a row of some hundred bytes and an answer of at most some KiB.
const MAX_KEYS: i64 = 10_000;
/// The wait of an organization that has as many: they leave by and by.
const FULL_FOR: Duration = Duration::from_secs(60);

/// The end of an attempt to begin a request.
pub enum Beginning<T> {
    /// It is to be carried out.
    New(Once<T>),
    /// It was carried out: the body of its answer.
    Answered(Vec<u8>),
}

/// The writer of an answer's body.
type Render<T> = Arc<dyn Fn(&T) -> Vec<u8> + Send + Sync>;

/// The right to carry a request out, and the way to write its answer.
pub struct Once<T> {
    app: App,
    claim: Option<Arc<Claim>>,
    render: Render<T>,
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self {
            app: self.app.clone(),
            claim: self.claim.clone(),
            render: self.render.clone(),
        }
    }
}

impl<T> Once<T> {
    /// The body of the answer.
    pub fn render(&self, outcome: &T) -> Vec<u8> {
        (self.render)(outcome)
    }

    /// Keeps the answer, in the transaction that carries the request out.
    pub(crate) async fn record(&self, conn: &mut Conn, outcome: &T) -> Result<(), AppError> {
        let Some(claim) = &self.claim else {
            return Ok(());
        };
        let (keys, answer) = (&self.app.0.settings.encryption_key, self.render(outcome));
        canary::hold(conn, keys, random(), self.app.0.clock.now()).await?;
        if idempotency::finish(conn, keys, claim, &answer, random()).await? {
            Ok(())
        } else {
            // Somebody thought us gone, and does the work now: ours is rolled back.
            Err(AppError::RequestInWork)
        }
    }

    /// Keeps the answer of work that is done: it took many transactions, or none. A crash before it lets a repeat of the
    /// request do the work again, so the work must bear that.
    pub async fn keep(&self, outcome: &T) -> Result<(), AppError> {
        // Without a key there is nothing to keep, and nobody to wait for.
        if self.claim.is_none() {
            return Ok(());
        }
        let mut conn = self.app.0.ledger.write().await?;
        self.record(&mut conn, outcome).await
    }

    /// Gives the request up, so that it may be tried again at once. A request that has its answer keeps it.
    pub async fn give_up(&self) {
        let Some(claim) = &self.claim else { return };
        let released = async {
            let mut conn = self.app.0.ledger.write().await?;
            idempotency::release(&mut conn, claim).await
        };
        // Swallowed: the claim ends by itself.
        if let Err(error) = released.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a request's key was not given up");
        }
    }
}

impl App {
    /// The right to carry out a request that has no key.
    pub fn unkeyed<T>(&self) -> Once<T> {
        Once {
            app: self.clone(),
            claim: None,
            render: Arc::new(|_| Vec::new()),
        }
    }

    /// Begins a request. One without a key is new each time.
    ///
    /// # Errors
    /// [`AppError::RequestInWork`], [`AppError::KeyReused`], [`AppError::AnswerUnreadable`], and
    /// [`AppError::TooOften`] if the organization has as many keys as it may have.
    pub async fn begin_once<T>(
        &self,
        request: Option<KeyedRequest>,
        render: impl Fn(&T) -> Vec<u8> + Send + Sync + 'static,
    ) -> Result<Beginning<T>, AppError> {
        let begun = match &request {
            Some(request) => Some(self.begin_keyed(request).await?),
            None => None,
        };
        let claim = match begun {
            None => None,
            Some(Begun::Ours(claim)) => Some(Arc::new(claim)),
            Some(Begun::InWork) => return Err(AppError::RequestInWork),
            Some(Begun::Reused) => return Err(AppError::KeyReused),
            Some(Begun::Answered(answer)) => {
                let opened = answer.open(&self.0.settings.encryption_key);
                return match opened {
                    Ok(body) => Ok(Beginning::Answered(body)),
                    // Its key has left the ring within a day.
                    Err(_) => Err(AppError::AnswerUnreadable),
                };
            }
        };
        Ok(Beginning::New(Once {
            app: self.clone(),
            claim,
            render: Arc::new(render),
        }))
    }

    async fn begin_keyed(&self, request: &KeyedRequest) -> Result<Begun, AppError> {
        let now = self.0.clock.now();
        let (held_until, too_old) = (now + MAX_WORK, keys_too_old(now));
        let mut conn = self.0.ledger.read().await?;
        let known = idempotency::known(&mut conn, request, too_old).await?;
        // What is there already is answered also where there is no room for another.
        let kept = match known {
            Some(Begun::InWork) => None,
            Some(known) => return Ok(known),
            None => Some(idempotency::count(&mut conn, &request.organization_id, MAX_KEYS).await?),
        };
        drop(conn);
        if kept.is_some_and(|kept| kept >= MAX_KEYS) {
            return Err(AppError::TooOften { wait: FULL_FOR });
        }
        let mut conn = self.0.ledger.write().await?;
        Ok(idempotency::begin(&mut conn, request, held_until, too_old, now).await?)
    }
}

/// Keys that were made at this time or before are over.
pub(crate) fn keys_too_old(now: Time) -> Time {
    now - KEPT
}
