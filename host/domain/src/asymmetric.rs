//! The asymmetric scheme of Standard Webhooks (`v1a`): Ed25519, so that a receiver needs nothing that could sign.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use secrecy::{ExposeSecret, SecretSlice};

use crate::signature::hmac_sha256;

/// The root of an endpoint's signing keys: known to the host alone. With each of the endpoint's secrets it makes
/// one key, so that the keys rotate with the secrets and need no place of their own, and whoever has the secret still
/// cannot sign in this scheme.
#[derive(Clone, Debug)]
pub struct SigningRoot(SecretSlice<u8>);

impl SigningRoot {
    /// From 32 bytes that are derived from the host's key for this endpoint alone.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes.to_vec().into())
    }

    pub(crate) fn key(&self, secret: &[u8]) -> SigningKey {
        let seed = hmac_sha256(self.0.expose_secret(), &[secret]);
        // Unchecked: the public key is stored nowhere, so there is none to compare with.
        SigningKey(Ed25519KeyPair::from_seed_unchecked(&seed).expect("every 32 bytes are a seed"))
    }
}

/// One key of the scheme.
pub(crate) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The public key that receivers verify with: `whpk_` and base64.
    pub(crate) fn public(&self) -> String {
        format!("whpk_{}", STANDARD.encode(self.0.public_key()))
    }

    /// `v1a,` and the base64 signature of `signed`.
    pub(crate) fn sign(&self, signed: &[u8]) -> String {
        format!("v1a,{}", STANDARD.encode(self.0.sign(signed)))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn what_is_signed_verifies_with_the_public_key_alone() {
        let key = SigningRoot::new([1; 32]).key(b"secret");
        let public = STANDARD
            .decode(key.public().strip_prefix("whpk_").expect("the prefix"))
            .expect("base64");
        let signature = key.sign(b"id.1.body");
        let signature = STANDARD
            .decode(signature.strip_prefix("v1a,").expect("the scheme"))
            .expect("base64");
        let reader = UnparsedPublicKey::new(&ED25519, public);
        assert!(reader.verify(b"id.1.body", &signature).is_ok());
        assert!(reader.verify(b"id.1.bodx", &signature).is_err());
    }

    #[test]
    fn keys_differ_by_root_and_by_secret() {
        let public = |root: u8, secret: &[u8]| SigningRoot::new([root; 32]).key(secret).public();
        assert_eq!(public(1, b"a"), public(1, b"a"));
        assert_ne!(public(1, b"a"), public(1, b"b"));
        assert_ne!(public(1, b"a"), public(2, b"a"));
        assert!(!format!("{:?}", SigningRoot::new([77; 32])).contains("77"));
    }
}
