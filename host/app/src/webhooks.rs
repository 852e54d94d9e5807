//! Registering and listing webhook endpoints.

use wharf_domain::{EndpointId, EndpointSecret, EventKind, OrganizationId, ShaperName, TargetUrl};
use wharf_store::endpoints;

use crate::{
    App, AppError,
    entropy::{new_id, random},
};

/// `POST /webhooks/register`, parsed.
#[derive(Clone, Debug)]
pub struct WebhookRegistration {
    /// Whose endpoint it is.
    pub organization_id: OrganizationId,
    /// What it wants to know.
    pub event: EventKind,
    /// Where it is.
    pub target_url: TargetUrl,
    /// In which shape; `None` is the original service's payload.
    pub shaper: Option<ShaperName>,
}

/// A webhook endpoint as its owner sees it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// What it wants to know.
    pub event: String,
    /// Where it is.
    pub target_url: String,
    /// Whether it is sent anything.
    pub is_active: bool,
    /// In which shape.
    pub shaper: ShaperName,
    /// `whsec_...`: only in the answer that created the endpoint.
    pub secret: Option<String>,
}

impl Endpoint {
    fn of(endpoint: endpoints::Endpoint, secret: Option<String>) -> Self {
        Self {
            id: endpoint.id,
            organization_id: endpoint.organization_id,
            event: endpoint.event,
            target_url: endpoint.target_url,
            is_active: endpoint.is_active,
            shaper: endpoint.shaper,
            secret,
        }
    }
}

impl App {
    /// Registers an endpoint; one with the same organization, event and URL is answered as it stands.
    pub async fn register_webhook(&self, registration: WebhookRegistration) -> Result<Endpoint, AppError> {
        let now = self.0.clock.now();
        let secret = EndpointSecret::from_random(random());
        let new = endpoints::NewEndpoint {
            id: EndpointId(new_id(now)),
            organization_id: &registration.organization_id,
            event: registration.event,
            target_url: &registration.target_url,
            shaper: &registration.shaper.unwrap_or_else(ShaperName::standard),
            secret: &secret,
            nonce: random(),
        };
        let mut conn = self.0.store.write().await?;
        let endpoint = endpoints::register(&mut conn, &self.0.settings.encryption_key, &new, now).await?;
        let created = endpoint.id == new.id;
        Ok(Endpoint::of(endpoint, created.then(|| secret.expose())))
    }

    /// The organization's endpoints, ordered by event, then URL.
    pub async fn webhooks(&self, organization: &OrganizationId) -> Result<Vec<Endpoint>, AppError> {
        let mut conn = self.0.store.read().await?;
        let endpoints = endpoints::list(&mut conn, organization).await?;
        Ok(endpoints.into_iter().map(|endpoint| Endpoint::of(endpoint, None)).collect())
    }
}
