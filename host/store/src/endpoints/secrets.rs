//! The secrets of endpoints: encrypted at rest, bound to the endpoint's organization, event and URL.

use wharf_domain::{EndpointId, EndpointSecret, Secrets, SigningRoot};

use crate::{EncryptionKey, Sealed, StoreError};

/// The columns that they are kept in, which they are bound to.
pub(super) const SECRET: &str = "webhook_endpoints.secret";
pub(super) const RETIRED: &str = "webhook_endpoints.retired_secrets";

/// An endpoint's secrets as they are stored.
pub(crate) struct SealedSecrets<'a> {
    pub(crate) endpoint_id: EndpointId,
    pub(crate) identity: &'a str,
    pub(crate) current: &'a Sealed,
    pub(crate) retired: Option<&'a Sealed>,
    pub(crate) asymmetric: bool,
}

impl SealedSecrets<'_> {
    pub(crate) fn open(&self, key: &EncryptionKey) -> Result<Secrets, StoreError> {
        let open = |place, sealed| {
            let text = key.open(place, self.identity, sealed)?;
            String::from_utf8(text).map_err(|why| StoreError::unreadable(place, why.utf8_error()))
        };
        let current = EndpointSecret::parse(&open(SECRET, self.current)?);
        let mut secrets = Secrets::new(current.map_err(|why| StoreError::unreadable(SECRET, why))?);
        if let Some(retired) = self.retired {
            let text = open(RETIRED, retired)?;
            secrets = secrets
                .with_retired(&text)
                .map_err(|why| StoreError::unreadable(RETIRED, why))?;
        }
        if self.asymmetric {
            secrets = secrets.with_root(signing_root(key, self.endpoint_id));
        }
        Ok(secrets)
    }
}

/// Returns the root that the endpoint's `v1a` keys are made from.
fn signing_root(key: &EncryptionKey, endpoint: EndpointId) -> SigningRoot {
    SigningRoot::new(key.derive("webhook_endpoints.v1a", &endpoint.to_string()))
}
