//! Encryption of secrets at rest: XChaCha20-Poly1305, a fresh nonce each, bound to table, column and row, so that a
//! ciphertext that is copied to another row does not open.
//!
//! Layout of a sealed value: version (1 byte, `1`), key id (8 bytes), nonce (24), ciphertext and tag.

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};

use crate::StoreError;

// The first byte of every sealed value, so that another cipher can be told from this one.
const VERSION: u8 = 1;
const KEY_ID: usize = 8;
const NONCE: usize = 24;

/// The key of a deployment, 32 bytes.
#[derive(Clone)]
pub struct EncryptionKey {
    id: [u8; KEY_ID],
    key: SecretSlice<u8>,
}

/// An encrypted value as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl EncryptionKey {
    /// A key from its 32 bytes. Its id is the beginning of its SHA-256, so a wrong key is told from a broken value.
    pub fn new(bytes: [u8; 32]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&digest[..KEY_ID]);
        Self {
            id,
            key: bytes.to_vec().into(),
        }
    }

    /// Bytes that only this deployment can make, for one purpose and subject; they tell nothing of the key.
    pub fn derive(&self, purpose: &'static str, subject: &str) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.key.expose_secret())
            .expect("HMAC takes keys of every length");
        mac.update(&self.bound_to(purpose, subject));
        mac.finalize().into_bytes().into()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new_from_slice(self.key.expose_secret())
            .expect("the key was made from 32 bytes")
    }

    fn bound_to(&self, place: &str, row: &str) -> Vec<u8> {
        let mut aad = self.id.to_vec();
        for part in [place, row] {
            // A place and a row are texts without NUL: joined by it, no two pairs are the same.
            aad.push(0);
            aad.extend_from_slice(part.as_bytes());
        }
        aad
    }

    /// Encrypts `secret` for one row. `place` is `table.column`; `nonce` must be random and used once.
    pub fn seal(
        &self,
        place: &'static str,
        row: &str,
        secret: &[u8],
        nonce: [u8; NONCE],
    ) -> Sealed {
        let payload = Payload {
            msg: secret,
            aad: &self.bound_to(place, row),
        };
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("encryption in memory fails only above 256 GiB");
        Sealed([&[VERSION][..], &self.id, &nonce, &ciphertext].concat())
    }

    /// Decrypts what [`seal`](Self::seal) made for the same place and row.
    pub fn open(
        &self,
        place: &'static str,
        row: &str,
        sealed: &Sealed,
    ) -> Result<Vec<u8>, StoreError> {
        let bytes = &sealed.0;
        if bytes.len() < 1 + KEY_ID + NONCE || bytes[0] != VERSION {
            return Err(StoreError::unreadable(place, "not a sealed value"));
        }
        let (id, rest) = bytes[1..].split_at(KEY_ID);
        // Before the cipher is tried: a wrong key is the operator's mistake, and is told apart from a changed row.
        if id != self.id {
            return Err(StoreError::unreadable(
                place,
                "sealed with another WHARF_ENCRYPTION_KEY",
            ));
        }
        let (nonce, ciphertext) = rest.split_at(NONCE);
        let nonce = <[u8; NONCE]>::try_from(nonce).expect("split at the nonce's length");
        let payload = Payload {
            msg: ciphertext,
            aad: &self.bound_to(place, row),
        };
        self.cipher()
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| StoreError::unreadable(place, "it was changed or copied from another row"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_where_it_was_sealed() {
        let key = EncryptionKey::new([7; 32]);
        let sealed = key.seal("stores.access_token", "row-1", b"token", [1; 24]);
        assert!(!sealed.0.windows(5).any(|w| w == b"token"));
        assert_eq!(
            key.open("stores.access_token", "row-1", &sealed)
                .expect("opens"),
            b"token"
        );
        assert!(key.open("stores.access_token", "row-2", &sealed).is_err());
        assert!(
            key.open("webhook_endpoints.secret", "row-1", &sealed)
                .is_err()
        );
        let error = EncryptionKey::new([8; 32])
            .open("stores.access_token", "row-1", &sealed)
            .expect_err("wrong key");
        assert!(error.to_string().contains("WHARF_ENCRYPTION_KEY"));
        for cut in 0..sealed.0.len() {
            assert!(
                key.open(
                    "stores.access_token",
                    "row-1",
                    &Sealed(sealed.0[..cut].to_vec())
                )
                .is_err()
            );
        }
    }
}
