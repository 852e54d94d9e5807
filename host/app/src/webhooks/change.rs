//! Changing and deleting endpoints.

use wharf_domain::{EndpointId, OrganizationId, Secrets, ShaperName, TargetUrl};
use wharf_store::{
    StoreError, Tx, canary,
    endpoints::{self, Endpoint},
    resend,
};

use crate::{App, AppError, entropy::random};

/// Deliveries of a deleted endpoint that go in one transaction: it locks their events, and workers that settle wait.
const MAX_DELETED: i64 = 100;
/// Such transactions of one request: a second or two of work. An endpoint may have any number of deliveries.
const MAX_DELETIONS: usize = 100;

/// The end of a request to delete an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The endpoint is gone.
    Complete,
    /// It has deliveries left, and is disabled: the request is to be repeated.
    Unfinished,
}

/// Sent events or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It is sent events; earlier failures are cleared.
    Enabled,
    /// It is not, for this reason. What was on its way becomes dead letters.
    Disabled(String),
}

/// A change of an endpoint; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct EndpointChange {
    /// Its URL.
    pub target_url: Option<TargetUrl>,
    /// The shape of its payloads, from the next event on.
    pub shaper: Option<ShaperName>,
    /// Sent events or not.
    pub activity: Option<Activity>,
    /// True to sign by a key pair (`v1a`) too.
    pub asymmetric: Option<bool>,
    /// At most so many deliveries a minute; 0 for no limit.
    pub rate_per_minute: Option<i64>,
}

impl EndpointChange {
    fn apply(self, endpoint: &mut Endpoint) {
        if let Some(url) = self.target_url
            && url.as_str() != endpoint.target_url
        {
            endpoint.target_url = url.as_str().to_owned();
            // Another receiver: what the former one answers, and answered, says nothing of it.
            endpoint.begin_anew();
        }
        if let Some(shaper) = self.shaper {
            endpoint.shaper = shaper;
        }
        if let Some(asymmetric) = self.asymmetric {
            endpoint.asymmetric = asymmetric;
        }
        if let Some(rate) = self.rate_per_minute {
            // Clients say 0 for no limit, because leaving the field out means no change.
            endpoint.rate_per_minute = (rate > 0).then_some(rate);
        }
        match self.activity {
            Some(Activity::Enabled) => endpoint.enable(),
            Some(Activity::Disabled(reason)) => {
                (endpoint.is_active, endpoint.disabled_reason) = (false, Some(reason));
            }
            None => {}
        }
    }
}

impl App {
    /// Changes an endpoint. What is on its way to it goes to the new URL, with the body that it has.
    pub async fn update_webhook(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
        change: EndpointChange,
    ) -> Result<Endpoint, AppError> {
        if let Some(url) = &change.target_url {
            self.check_target(url)?;
        }
        let apply = |endpoint: &mut Endpoint, _: &mut Option<Secrets>| {
            change.apply(endpoint);
            Ok(())
        };
        let mut tx = self.0.ledger.begin().await?;
        let changed = self.change_in(&mut tx, organization, id, apply).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Reads an endpoint, changes it and writes it in one transaction, so that no other change comes in between. An
    /// endpoint whose secrets no key opens has none here: they stay as they are stored, or are replaced.
    pub(super) async fn change_in(
        &self,
        tx: &mut Tx,
        organization: &OrganizationId,
        id: EndpointId,
        change: impl FnOnce(&mut Endpoint, &mut Option<Secrets>) -> Result<(), AppError> + Send,
    ) -> Result<Endpoint, AppError> {
        let (now, key) = (self.0.clock.now(), &self.0.settings.encryption_key);
        let found = endpoints::lock(tx, organization, id).await?;
        let mut endpoint = found.ok_or(AppError::EndpointNotFound)?;
        let mut secrets = readable(endpoint.secrets(key))?;
        let url = endpoint.target_url.clone();
        change(&mut endpoint, &mut secrets)?;
        // Secrets are bound to the URL.
        if secrets.is_none() && endpoint.target_url != url {
            return Err(AppError::SecretUnreadable);
        }
        endpoint.updated_at = now;
        // Sealed anew with every save: a nonce must never be used twice with one key.
        canary::hold(tx, key, random(), now).await?;
        let nonces = [random(), random(), random()];
        endpoints::save(tx, key, &endpoint, secrets.as_ref(), nonces, now).await?;
        // As it is stored now: with it come the secrets' own columns.
        let saved = endpoints::get(tx, organization, id).await?;
        saved.ok_or(AppError::EndpointNotFound)
    }

    /// Deletes an endpoint and its deliveries, or as many as one request may. Events that go to others as well are not
    /// touched.
    pub async fn delete_webhook(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<Deletion, AppError> {
        // First: no worker may make new deliveries to it while the old ones are removed.
        let disabled = Activity::Disabled("it is being deleted".into());
        let change = EndpointChange {
            activity: Some(disabled),
            ..EndpointChange::default()
        };
        self.update_webhook(organization, id, change).await?;
        for _ in 0..MAX_DELETIONS {
            let mut tx = self.0.ledger.begin().await?;
            let deleted = resend::delete_some(&mut tx, id, MAX_DELETED).await?;
            let was_last = i64::try_from(deleted).is_ok_and(|deleted| deleted < MAX_DELETED);
            // The endpoint goes with the last of its deliveries; a crash before leaves it disabled, to be tried again.
            if was_last {
                endpoints::delete(&mut tx, organization, id).await?;
            }
            tx.commit().await?;
            if was_last {
                tracing::info!(endpointId = %id, "webhook_deleted");
                return Ok(Deletion::Complete);
            }
        }
        Ok(Deletion::Unfinished)
    }
}

/// The secrets, or `None` where no key opens them. That is this host's fault, and no reason to keep the endpoint for
/// ever.
pub(super) fn readable(opened: Result<Secrets, StoreError>) -> Result<Option<Secrets>, AppError> {
    match opened {
        Ok(secrets) => Ok(Some(secrets)),
        Err(StoreError::Unreadable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
