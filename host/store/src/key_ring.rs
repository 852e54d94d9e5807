//! The keys of a deployment: the first seals, all of them open. So a new key comes in before the old one leaves.

use crate::{EncryptionKey, KeyId, Sealed, StoreError};

/// What became of holding a message against an HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MacCheck {
    /// It is the message's, by the first key of the ring.
    ByFirst,
    /// It is the message's, by another key of the ring.
    ByOther,
    /// It is another message's.
    Different,
    /// It was made with a key that is not of the ring.
    UnknownKey,
}

/// One key or more. The first is the one that new values are sealed with.
#[derive(Clone)]
pub struct KeyRing {
    first: EncryptionKey,
    others: Vec<EncryptionKey>,
}

impl From<EncryptionKey> for KeyRing {
    fn from(key: EncryptionKey) -> Self {
        Self::new(key, [])
    }
}

impl KeyRing {
    /// `first` seals; `others` open what they sealed before.
    pub fn new(first: EncryptionKey, others: impl IntoIterator<Item = EncryptionKey>) -> Self {
        Self {
            first,
            others: others.into_iter().collect(),
        }
    }

    /// The key that seals.
    pub const fn first(&self) -> &EncryptionKey {
        &self.first
    }

    /// The ids of the keys, the first one's first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys().map(EncryptionKey::id)
    }

    /// True where a key of this ring has that id.
    pub fn holds(&self, id: KeyId) -> bool {
        self.ids().any(|held| held == id)
    }

    /// The key that sealed a value, if it is of this ring.
    pub(crate) fn key_of(&self, sealed: &Sealed) -> Option<&EncryptionKey> {
        self.by_id(sealed.key_id()?)
    }

    fn keys(&self) -> impl Iterator<Item = &EncryptionKey> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn by_id(&self, id: KeyId) -> Option<&EncryptionKey> {
        self.keys().find(|key| key.id() == id)
    }

    /// HMAC-SHA-256 of an API key's secret, behind the id of the first key, which it is made with.
    pub(crate) fn mac(&self, message: &[u8]) -> Vec<u8> {
        self.first.pepper(message)
    }

    /// Holds a message against what [`mac`](Self::mac) made, in constant time.
    pub(crate) fn check_mac(&self, stored: &[u8], message: &[u8]) -> MacCheck {
        let Some(key) = Sealed::head(stored).and_then(|(_, id)| self.by_id(id)) else {
            return MacCheck::UnknownKey;
        };
        match (
            key.is_pepper_of(stored, message),
            key.id() == self.first.id(),
        ) {
            (false, _) => MacCheck::Different,
            (true, true) => MacCheck::ByFirst,
            (true, false) => MacCheck::ByOther,
        }
    }

    /// Signs a portal token with the first key.
    pub fn sign_token(&self, said: &[u8]) -> [u8; 32] {
        self.first.sign_token(said)
    }

    /// True of what [`sign_token`](Self::sign_token) made with a key of this ring. In constant time.
    pub fn verify_token(&self, key: KeyId, said: &[u8], signature: &[u8; 32]) -> bool {
        let key = self.by_id(key);
        key.is_some_and(|key| key.verifies_token(said, signature))
    }

    /// Derives the root of an endpoint's `v1a` keys from the key that sealed its secret.
    pub(crate) fn derive_root(
        &self,
        secret: &Sealed,
        endpoint: &str,
    ) -> Result<[u8; 32], StoreError> {
        let key = self
            // Not the first key: one that comes in must not change what receivers verify with.
            .key_of(secret)
            .ok_or_else(|| unknown("webhook_endpoints.signing_root", secret))?;
        Ok(key.derive_root(secret, endpoint))
    }

    /// Encrypts `secret` for one row with the first key. `place` is `table.column`; `nonce` must be random and used
    /// once.
    pub fn seal(&self, place: &'static str, row: &str, secret: &[u8], nonce: [u8; 24]) -> Sealed {
        self.first.seal(place, row, secret, nonce)
    }

    /// Decrypts what [`seal`](Self::seal) made for the same place and row with any of the keys.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`]: it was sealed with a key that is not of this ring, or it was changed.
    pub fn open(
        &self,
        place: &'static str,
        row: &str,
        sealed: &Sealed,
    ) -> Result<Vec<u8>, StoreError> {
        let key = self.key_of(sealed);
        key.ok_or_else(|| unknown(place, sealed))?
            .open(place, row, sealed)
    }
}

/// Says which key a value asks for.
fn unknown(place: &'static str, sealed: &Sealed) -> StoreError {
    match sealed.key_id() {
        Some(id) => StoreError::unreadable(
            place,
            format!("it was sealed with key {id}, which WHARF_ENCRYPTION_KEY does not hold"),
        ),
        None => StoreError::unreadable(place, "not a sealed value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_seals_and_all_open() {
        let [old, new] = [[1; 32], [2; 32]].map(EncryptionKey::new);
        let ring = KeyRing::new(new.clone(), [old.clone()]);
        let by_old = KeyRing::from(old).seal("t.c", "r", b"secret", [0; 24]);
        let by_new = ring.seal("t.c", "r", b"secret", [0; 24]);
        assert_eq!(by_new.key_id(), Some(new.id()));
        for sealed in [&by_old, &by_new] {
            assert_eq!(ring.open("t.c", "r", sealed).expect("opens"), b"secret");
        }
        let why = KeyRing::from(new)
            .open("t.c", "r", &by_old)
            .expect_err("the old key is not given");
        assert!(why.to_string().contains("WHARF_ENCRYPTION_KEY"), "{why}");
        assert!(
            why.to_string()
                .contains(&by_old.key_id().expect("an id").to_string())
        );
    }
}
