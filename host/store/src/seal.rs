//! Encryption of secrets at rest: XChaCha20-Poly1305, a fresh nonce each, bound to table, column and row, so that a
//! ciphertext that is copied to another row does not open.
//!
//! Layout of a sealed value: version (1 byte), key id (8 bytes), nonce (24), ciphertext and tag. Version 2 is sealed
//! with a subkey for this purpose alone; version 1, with the key itself, is still read.

use std::fmt;

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};

use crate::StoreError;

// The first byte of every sealed value.
const VERSION_1: u8 = 1;
const VERSION_2: u8 = 2;
const KEY_ID: usize = 8;
// XChaCha20's: long enough to be drawn at random for any number of values.
const NONCE: usize = 24;
/// The purposes that subkeys are made for.
const SEALING: &[u8] = b"wharf/seal/v2";
const ROOTS: &[u8] = b"wharf/v1a-roots/v2";
const PEPPER: &[u8] = b"wharf/api-keys/v1";
const TOKENS: &[u8] = b"wharf/portal-tokens/v1";

/// The name of a key: the beginning of its SHA-256. It tells nothing of the key and may be shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; KEY_ID]);

impl KeyId {
    /// Reads the 16 hexadecimal digits that [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = u64::from_str_radix(text, 16).ok();
        digits
            // `from_str_radix` takes a sign, too.
            .filter(|_| text.len() == 2 * KEY_ID && !text.starts_with('+'))
            .map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One key of a deployment, 32 bytes, with the subkeys that are made from it.
#[derive(Clone)]
pub struct EncryptionKey {
    id: KeyId,
    /// Only for what older versions made with it; everything new is made with a subkey.
    raw: SecretSlice<u8>,
    sealing: SecretSlice<u8>,
    roots: SecretSlice<u8>,
    pepper: SecretSlice<u8>,
    tokens: SecretSlice<u8>,
}

/// An encrypted value as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

/// The parts of a sealed value.
struct Parts<'a> {
    version: u8,
    key: KeyId,
    nonce: [u8; NONCE],
    ciphertext: &'a [u8],
}

impl Sealed {
    /// The key that it was sealed with; `None` if it is no sealed value.
    pub fn key_id(&self) -> Option<KeyId> {
        self.parts().map(|parts| parts.key)
    }

    /// Reads the beginning of a sealed value: true for the newest version, and the key.
    pub(crate) fn head(bytes: &[u8]) -> Option<(bool, KeyId)> {
        let (version, rest) = bytes.split_first()?;
        Some((*version == VERSION_2, KeyId(*rest.first_chunk()?)))
    }

    fn parts(&self) -> Option<Parts<'_>> {
        let (version, rest) = self.0.split_first()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        (VERSION_1..=VERSION_2).contains(version).then_some(Parts {
            version: *version,
            key: KeyId(*id),
            nonce: *nonce,
            ciphertext,
        })
    }
}

impl EncryptionKey {
    /// A key from its 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&Sha256::digest(bytes)[..KEY_ID]);
        // No salt, which HKDF leaves optional: every process must derive the same, and asks nobody.
        let subkeys = Hkdf::<Sha256>::new(None, &bytes);
        let subkey = |purpose| {
            let mut subkey = vec![0; 32];
            subkeys
                .expand(purpose, &mut subkey)
                .expect("HKDF-SHA-256 makes up to 8160 bytes");
            subkey.into()
        };
        Self {
            id: KeyId(id),
            raw: bytes.to_vec().into(),
            sealing: subkey(SEALING),
            roots: subkey(ROOTS),
            pepper: subkey(PEPPER),
            tokens: subkey(TOKENS),
        }
    }

    /// Its name, which every value carries that is sealed with it.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The root of an endpoint's `v1a` keys, in the way of the version that sealed the endpoint's secret.
    pub(crate) fn derive_root(&self, secret: &Sealed, endpoint: &str) -> [u8; 32] {
        let version = secret.parts().map_or(VERSION_2, |parts| parts.version);
        let key = if version == VERSION_1 {
            &self.raw
        } else {
            &self.roots
        };
        let mut mac = hmac(key);
        mac.update(&self.bound_to(version, "webhook_endpoints.v1a", endpoint));
        mac.finalize().into_bytes().into()
    }

    /// The HMAC of an API key's secret. Headed as sealed values are, so that both are counted in one way.
    pub(crate) fn pepper(&self, message: &[u8]) -> Vec<u8> {
        let mac = hmac(&self.pepper).chain_update(message).finalize();
        [&[VERSION_2][..], &self.id.0, &mac.into_bytes()].concat()
    }

    /// True where [`pepper`](Self::pepper) made `stored` of this message.
    pub(crate) fn is_pepper_of(&self, stored: &[u8], message: &[u8]) -> bool {
        let mac = hmac(&self.pepper).chain_update(message);
        let stored = stored.get(1 + KEY_ID..).unwrap_or_default();
        // In constant time; a value of another length is wrong.
        mac.verify_slice(stored).is_ok()
    }

    pub(crate) fn sign_token(&self, said: &[u8]) -> [u8; 32] {
        let mac = hmac(&self.tokens).chain_update(said);
        mac.finalize().into_bytes().into()
    }

    pub(crate) fn verifies_token(&self, said: &[u8], signature: &[u8; 32]) -> bool {
        let mac = hmac(&self.tokens).chain_update(said);
        mac.verify_slice(signature).is_ok()
    }

    /// True where nothing is gained by sealing the value anew with this key.
    pub(crate) fn sealed_lately(&self, sealed: &Sealed) -> bool {
        sealed
            .parts()
            .is_some_and(|parts| parts.version == VERSION_2 && parts.key == self.id)
    }

    fn cipher(&self, version: u8) -> XChaCha20Poly1305 {
        let key = if version == VERSION_1 {
            &self.raw
        } else {
            &self.sealing
        };
        XChaCha20Poly1305::new_from_slice(key.expose_secret())
            .expect("both keys were made with 32 bytes")
    }

    fn bound_to(&self, version: u8, place: &str, row: &str) -> Vec<u8> {
        let mut bound = Vec::new();
        // Version 1 did not bind its number.
        if version != VERSION_1 {
            bound.push(version);
        }
        bound.extend_from_slice(&self.id.0);
        for part in [place, row] {
            // A place and a row are texts without NUL: joined by it, no two pairs are the same.
            bound.push(0);
            bound.extend_from_slice(part.as_bytes());
        }
        bound
    }

    pub(crate) fn seal(
        &self,
        place: &'static str,
        row: &str,
        secret: &[u8],
        nonce: [u8; NONCE],
    ) -> Sealed {
        self.seal_as(VERSION_2, place, row, secret, nonce)
    }

    fn seal_as(
        &self,
        version: u8,
        place: &'static str,
        row: &str,
        secret: &[u8],
        nonce: [u8; NONCE],
    ) -> Sealed {
        let payload = Payload {
            msg: secret,
            aad: &self.bound_to(version, place, row),
        };
        let ciphertext = self
            .cipher(version)
            .encrypt(&XNonce::from(nonce), payload)
            .expect("encryption in memory fails only above 256 GiB");
        Sealed([&[version][..], &self.id.0, &nonce, &ciphertext].concat())
    }

    /// Decrypts a value that this key sealed.
    pub(crate) fn open(
        &self,
        place: &'static str,
        row: &str,
        sealed: &Sealed,
    ) -> Result<Vec<u8>, StoreError> {
        let parts = sealed
            .parts()
            .filter(|parts| parts.key == self.id)
            .ok_or_else(|| StoreError::unreadable(place, "not sealed with this key"))?;
        let payload = Payload {
            msg: parts.ciphertext,
            aad: &self.bound_to(parts.version, place, row),
        };
        self.cipher(parts.version)
            .decrypt(&XNonce::from(parts.nonce), payload)
            // The cipher's error says nothing, on purpose: these are the ways to it.
            .map_err(|_| StoreError::unreadable(place, "it was changed or copied from another row"))
    }
}

fn hmac(key: &SecretSlice<u8>) -> Hmac<Sha256> {
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.expose_secret())
        .expect("HMAC takes keys of every length")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sealed by a version of the program that knew no subkeys.
    const OLD: &str = "01544e62cee8033709010101010101010101010101010101010101010101010101\
                       20d0fe46d89da381bbce46a9178abfcfa1fc4bf6b1";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits"))
            .collect()
    }

    #[test]
    fn opens_only_where_it_was_sealed() {
        let key = EncryptionKey::new([7; 32]);
        let sealed = key.seal("stores.access_token", "row-1", b"token", [1; 24]);
        assert!(!sealed.0.windows(5).any(|w| w == b"token"));
        let open = |key: &EncryptionKey, place, row, sealed: &Sealed| key.open(place, row, sealed);
        let place = "stores.access_token";
        assert_eq!(
            open(&key, place, "row-1", &sealed).expect("opens"),
            b"token"
        );
        assert!(open(&key, place, "row-2", &sealed).is_err());
        assert!(open(&key, "webhook_endpoints.secret", "row-1", &sealed).is_err());
        assert!(open(&EncryptionKey::new([8; 32]), place, "row-1", &sealed).is_err());
        for cut in 0..sealed.0.len() {
            let cut = Sealed(sealed.0[..cut].to_vec());
            assert!(open(&key, place, "row-1", &cut).is_err());
        }
        // A version that is rewritten to 1 does not open with the key itself.
        let mut rewritten = sealed;
        rewritten.0[0] = VERSION_1;
        assert!(open(&key, place, "row-1", &rewritten).is_err());
    }

    #[test]
    fn values_of_version_1_open() {
        let (key, old) = (EncryptionKey::new([42; 32]), Sealed(bytes(OLD)));
        assert_eq!(
            key.open("t.c", "row-1", &old).expect("opens"),
            b"token",
            "as older versions sealed it"
        );
        assert!(key.open("t.c", "row-2", &old).is_err());
        assert!(!key.sealed_lately(&old), "it is to be sealed anew");
        let new = key.seal("t.c", "row-1", b"token", [1; 24]);
        assert!(key.sealed_lately(&new) && new != old);
    }

    #[test]
    fn roots_of_version_1_stay() {
        let (key, endpoint) = (
            EncryptionKey::new([42; 32]),
            "01890a5d-ac96-774b-bcce-b302099a8057",
        );
        let root = key.derive_root(&Sealed(bytes(OLD)), endpoint);
        assert_eq!(
            root.to_vec(),
            bytes("7c49be0eb8c7cd06415c2a288c244bdd2de3b834ec1fe057a5e0f090c15b88ba")
        );
        let new = key.seal("t.c", "row-1", b"token", [1; 24]);
        assert_ne!(key.derive_root(&new, endpoint), root);
    }

    #[test]
    fn ids_are_written_and_read() {
        let id = EncryptionKey::new([42; 32]).id();
        assert_eq!(id.to_string(), "544e62cee8033709");
        assert_eq!(KeyId::parse("544e62cee8033709"), Some(id));
        for bad in [
            "",
            "544e62cee803370",
            "544e62cee80337090",
            "+44e62cee8033709",
        ] {
            assert_eq!(KeyId::parse(bad), None, "{bad}");
        }
    }
}
