//! The secrets of endpoints: encrypted at rest, bound to the endpoint's organization, event and URL.
//!
//! The root of an endpoint's `v1a` key pairs is derived from the key that its secret is sealed with. Before that key
//! leaves, the root is sealed beside the secret and stays: receivers hold public keys, and nobody would tell them of
//! new ones.

use wharf_domain::{EndpointId, EndpointSecret, Secrets, SigningRoot};

use crate::{KeyRing, Sealed, StoreError};

/// The columns that they are kept in, which they are bound to.
pub(crate) const SECRET: &str = "webhook_endpoints.secret";
pub(crate) const RETIRED: &str = "webhook_endpoints.retired_secrets";
/// Bound to the endpoint's id, so that it need not be sealed anew where the URL changes.
pub(crate) const ROOT: &str = "webhook_endpoints.signing_root";

/// An endpoint's secrets as they are stored.
#[derive(Clone, Debug)]
pub(crate) struct SealedSecrets {
    pub(crate) current: Sealed,
    pub(crate) retired: Option<Sealed>,
    /// `None`: derived from the key that sealed `current`.
    pub(crate) root: Option<Sealed>,
}

/// The columns that hold them.
#[derive(FromRow)]
pub(crate) struct SealedRow {
    secret: Vec<u8>,
    retired_secrets: Option<Vec<u8>>,
    signing_root: Option<Vec<u8>>,
}

impl From<SealedRow> for SealedSecrets {
    fn from(row: SealedRow) -> Self {
        Self {
            current: Sealed(row.secret),
            retired: row.retired_secrets.map(Sealed),
            root: row.signing_root.map(Sealed),
        }
    }
}

impl SealedSecrets {
    /// Every value that there is.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Sealed> {
        let others = self.retired.iter().chain(&self.root);
        std::iter::once(&self.current).chain(others)
    }

    pub(crate) fn open(
        &self,
        keys: &KeyRing,
        endpoint: EndpointId,
        identity: &str,
        asymmetric: bool,
    ) -> Result<Secrets, StoreError> {
        let open = |place, sealed| {
            let text = keys.open(place, identity, sealed)?;
            // `utf8_error` leaves the bytes behind: they are the secret.
            String::from_utf8(text).map_err(|why| StoreError::unreadable(place, why.utf8_error()))
        };
        let current = EndpointSecret::parse(&open(SECRET, &self.current)?);
        let mut secrets = Secrets::new(current.map_err(|why| StoreError::unreadable(SECRET, why))?);
        if let Some(retired) = &self.retired {
            let text = open(RETIRED, retired)?;
            secrets = secrets
                .with_retired(&text)
                .map_err(|why| StoreError::unreadable(RETIRED, why))?;
        }
        if asymmetric {
            secrets = secrets.with_root(SigningRoot::new(self.root(keys, endpoint)?));
        }
        Ok(secrets)
    }

    /// Returns the root that the endpoint's `v1a` keys are made from.
    pub(crate) fn root(
        &self,
        keys: &KeyRing,
        endpoint: EndpointId,
    ) -> Result<[u8; 32], StoreError> {
        let subject = endpoint.to_string();
        let Some(sealed) = &self.root else {
            return keys.derive_root(&self.current, &subject);
        };
        let root = keys.open(ROOT, &subject, sealed)?;
        root.try_into()
            .map_err(|_| StoreError::unreadable(ROOT, "it has not 32 bytes"))
    }

    /// The root as it must be stored once the secret is sealed anew; `None` where it can still be derived, or is lost.
    pub(crate) fn kept_root(
        &self,
        keys: &KeyRing,
        endpoint: EndpointId,
        nonce: [u8; 24],
    ) -> Option<Sealed> {
        let is_lately = |sealed| keys.first().sealed_lately(sealed);
        match &self.root {
            // The key that seals the secret anew is the one that the root is derived from already.
            None if is_lately(&self.current) => return None,
            Some(sealed) if is_lately(sealed) => return Some(sealed.clone()),
            _ => {}
        }
        // A root that no key opens is lost: from now on it comes from the key of the new secret.
        let root = self.root(keys, endpoint).ok()?;
        Some(keys.seal(ROOT, &endpoint.to_string(), &root, nonce))
    }
}
