//! Webhook endpoints: registering and reading. `change.rs` changes and deletes them, `secrets.rs` rotates their
//! secrets, `trial.rs` sends to one of them alone.

mod change;
mod secrets;
mod trial;

use wharf_domain::{
    EndpointId, EndpointSecret, EventKind, OrganizationId, Secrets, ShaperName, TargetUrl,
};
use wharf_egress::Guard;
use wharf_store::{
    canary,
    endpoints::{self, Endpoint, ListCursor},
};

pub use self::{
    change::{Activity, Deletion, EndpointChange},
    secrets::{MAX_OVERLAP, SecretReport},
    trial::TestSent,
};
use crate::{
    App, AppError,
    entropy::{new_id, random},
};

/// `POST /webhooks/register`, parsed.
#[derive(Clone, Debug)]
pub struct WebhookRegistration {
    /// The owner.
    pub organization_id: OrganizationId,
    /// The events that it wants.
    pub event: EventKind,
    /// Its URL.
    pub target_url: TargetUrl,
    /// The shape of its payloads; `None` is the original service's.
    pub shaper: Option<ShaperName>,
    /// True to sign by a key pair (`v1a`) too.
    pub asymmetric: bool,
}

/// The most endpoints on one page of a list.
pub const MAX_WEBHOOKS_PER_PAGE: usize = 1_000;

/// A page of an organization's endpoints.
#[derive(Clone, Debug)]
pub struct WebhookPage {
    /// Those on it.
    pub webhooks: Vec<Endpoint>,
    /// The place where the next page begins; `None` on the last.
    pub next: Option<ListCursor>,
}

/// An endpoint that was asked for.
#[derive(Clone, Debug)]
pub struct RegisteredWebhook {
    /// The endpoint as it stands.
    pub endpoint: Endpoint,
    /// `whsec_...`: only if this registration created the endpoint.
    pub secret: Option<String>,
}

impl App {
    /// Registers an endpoint; one with the same organization, event and URL is answered as it stands, and enabled if it
    /// is disabled.
    pub async fn register_webhook(
        &self,
        registration: WebhookRegistration,
    ) -> Result<RegisteredWebhook, AppError> {
        self.check_target(&registration.target_url)?;
        let now = self.0.clock.now();
        let secret = EndpointSecret::from_random(random());
        let new = endpoints::NewEndpoint {
            id: EndpointId(new_id(now)),
            organization_id: &registration.organization_id,
            event: registration.event,
            target_url: &registration.target_url,
            shaper: &registration.shaper.unwrap_or_else(ShaperName::standard),
            asymmetric: registration.asymmetric,
            secret: &secret,
            nonce: random(),
        };
        let mut tx = self.0.ledger.begin().await?;
        // One that exists is answered also where there is no room for another.
        let endpoint = match endpoints::registered(&mut tx, &new).await? {
            Some(known) if known.is_active => known,
            Some(known) => {
                let enable = |endpoint: &mut Endpoint, _: &mut Option<Secrets>| {
                    endpoint.enable();
                    Ok(())
                };
                self.change_in(&mut tx, new.organization_id, known.id, enable)
                    .await?
            }
            None => {
                let max = self.0.settings.callbacks.max_endpoints;
                if !endpoints::has_room(&mut tx, new.organization_id, max, now).await? {
                    return Err(AppError::TooManyEndpoints);
                }
                let key = &self.0.settings.encryption_key;
                canary::hold(&mut tx, key, random(), now).await?;
                endpoints::register(&mut tx, key, &new, now).await?
            }
        };
        tx.commit().await?;
        // An endpoint that existed keeps its id and its secret, which is not shown twice.
        let created = endpoint.id == new.id;
        Ok(RegisteredWebhook {
            secret: created.then(|| secret.expose()),
            endpoint,
        })
    }

    /// Refuses what can be known of a forbidden address before anything is resolved.
    fn check_target(&self, url: &TargetUrl) -> Result<(), AppError> {
        let guard = Guard::for_webhooks(self.0.settings.callbacks.addresses.clone());
        guard
            .check_target(url.url())
            .map_err(|why| AppError::TargetForbidden(why.to_string()))
    }

    /// A page of the organization's endpoints, ordered by event, then URL. At most [`MAX_WEBHOOKS_PER_PAGE`].
    pub async fn webhooks(
        &self,
        organization: &OrganizationId,
        after: Option<&ListCursor>,
        limit: usize,
    ) -> Result<WebhookPage, AppError> {
        let limit = limit.clamp(1, MAX_WEBHOOKS_PER_PAGE);
        // One more than the page shows tells whether there is a next one.
        let one_more = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let mut conn = self.0.ledger.read().await?;
        let mut webhooks = endpoints::list(&mut conn, organization, after, one_more).await?;
        let is_last = webhooks.len() <= limit;
        webhooks.truncate(limit);
        let last = webhooks.last().filter(|_| !is_last);
        let next = last.map(|last| ListCursor {
            event: last.event.clone(),
            target_url: last.target_url.clone(),
        });
        Ok(WebhookPage { webhooks, next })
    }

    /// One endpoint.
    pub async fn webhook(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<Endpoint, AppError> {
        let mut conn = self.0.ledger.read().await?;
        endpoints::get(&mut conn, organization, id)
            .await?
            .ok_or(AppError::EndpointNotFound)
    }
}
