//! Webhook signatures. Two schemes: Standard Webhooks (<https://www.standardwebhooks.com>), always, and the original
//! service's `X-Webhook-Signature`, where its secret is set.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

use crate::{EventId, Invalid, Time};

const PREFIX: &str = "whsec_";

/// The key that one endpoint's deliveries are signed with: 24 to 64 bytes. No `Debug` of its content.
#[derive(Clone, Debug)]
pub struct EndpointSecret(SecretSlice<u8>);

impl EndpointSecret {
    /// A secret from 32 random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(random.to_vec().into())
    }

    /// Reads `whsec_` and base64 of 24 to 64 bytes, the form that receivers' libraries take.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bytes = text.strip_prefix(PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        match bytes {
            Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(Self(bytes.into())),
            _ => Err(Invalid("must be whsec_ and base64 of 24 to 64 bytes".into())),
        }
    }

    /// The secret in the form that receivers' libraries take. To be shown to the endpoint's owner, never logged.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.0.expose_secret()))
    }
}

/// The value of `webhook-signature` for one secret: `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`.
pub fn standard_signature(secret: &EndpointSecret, id: EventId, sent_at: Time, body: &[u8]) -> String {
    let head = format!("{id}.{}.", sent_at.as_seconds());
    format!("v1,{}", STANDARD.encode(hmac_sha256(secret.0.expose_secret(), &[head.as_bytes(), body])))
}

/// The value of the original service's `X-Webhook-Signature`: `sha256=` and the hex HMAC-SHA256 of the body.
pub fn seed_signature(secret: &[u8], body: &[u8]) -> String {
    let hex: String = hmac_sha256(secret, &[body]).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of every length"),
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_agrees_with_rfc_4231() {
        let signature = seed_signature(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(signature, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn the_reference_library_accepts_our_signature() {
        let secret = EndpointSecret::from_random([9; 32]);
        let id = EventId(crate::uuid_v4([1; 16]));
        let sent_at = crate::Clock::now(&crate::SystemClock);
        let signature = standard_signature(&secret, id, sent_at, b"{\"a\":1}");
        let reader = standardwebhooks::Webhook::new(&secret.expose()).expect("a secret it can read");
        assert_eq!(reader.sign(&id.to_string(), sent_at.as_seconds(), b"{\"a\":1}").expect("signed"), signature);
        assert_ne!(reader.sign(&id.to_string(), sent_at.as_seconds(), b"{\"a\":2}").expect("signed"), signature);
    }

    #[test]
    fn secrets_survive_showing_and_are_not_debugged() {
        let secret = EndpointSecret::from_random([5; 32]);
        let shown = secret.expose();
        assert_eq!(EndpointSecret::parse(&shown).map(|s| s.expose()), Ok(shown.clone()));
        assert!(!format!("{secret:?}").contains(&shown[PREFIX.len()..]));
        for bad in ["", "whsec_", "whsec_AAAA", "whsec_!!!!", &shown[1..]] {
            assert!(EndpointSecret::parse(bad).is_err());
        }
    }
}
