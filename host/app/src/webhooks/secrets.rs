//! The secrets of endpoints.

use std::time::Duration;

use wharf_domain::{EndpointId, EndpointSecret, OrganizationId, Secrets, Time, TooManyOverlaps};
use wharf_store::endpoints::Endpoint;

use super::change::readable;
use crate::{App, AppError, Once, entropy::random};

/// The longest that a replaced secret still signs.
pub const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The secrets of an endpoint.
#[derive(Clone)]
pub struct SecretReport {
    /// The current one, `whsec_...`.
    pub secret: String,
    /// The key that verifies `v1a` signatures, `whpk_...`; `None` where none are made.
    pub public_key: Option<String>,
    /// The end of each replaced secret that still signs too.
    pub overlaps: Vec<Time>,
}

impl App {
    /// The endpoint's secrets.
    pub async fn webhook_secret(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
    ) -> Result<SecretReport, AppError> {
        let endpoint = self.webhook(organization, id).await?;
        // Showing a secret leaves a trace. The line names the endpoint alone.
        tracing::info!(endpointId = %id, "webhook_secret_shown");
        self.secret_report(&endpoint)
    }

    fn secret_report(&self, endpoint: &Endpoint) -> Result<SecretReport, AppError> {
        let opened = endpoint.secrets(&self.0.settings.encryption_key);
        let secrets = readable(opened)?.ok_or(AppError::SecretUnreadable)?;
        Ok(SecretReport {
            secret: secrets.current().expose(),
            public_key: secrets.public_key(),
            overlaps: secrets.overlaps(self.0.clock.now()).collect(),
        })
    }

    /// Gives the endpoint a new secret. The old one signs too for `overlap`, at most [`MAX_OVERLAP`], unless no key
    /// opens it.
    ///
    /// # Errors
    /// [`AppError::TooManySecrets`] if the overlaps of too many are not over. One without an overlap is always taken.
    pub async fn rotate_webhook_secret(
        &self,
        organization: &OrganizationId,
        id: EndpointId,
        overlap: Duration,
        once: &Once<SecretReport>,
    ) -> Result<SecretReport, AppError> {
        let now = self.0.clock.now();
        // Cut here as well as by the API: a secret that leaked must not sign for ever.
        let until = now + overlap.min(MAX_OVERLAP);
        let new = EndpointSecret::from_random(random());
        let rotate = |_: &mut Endpoint, secrets: &mut Option<Secrets>| {
            *secrets = Some(match secrets.take() {
                Some(old) => old
                    .rotated(new, until, now)
                    .map_err(|TooManyOverlaps| AppError::TooManySecrets)?,
                // No key opens the old one, so it cannot sign on. Rotating is the way out of a lost key.
                None => Secrets::new(new),
            });
            Ok(())
        };
        let mut tx = self.0.ledger.begin().await?;
        let endpoint = self.change_in(&mut tx, organization, id, rotate).await?;
        let report = self.secret_report(&endpoint)?;
        once.record(&mut tx, &report).await?;
        tx.commit().await?;
        tracing::info!(endpointId = %id, "webhook_secret_rotated");
        Ok(report)
    }
}
