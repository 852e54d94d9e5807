//! Webhook signatures: Standard Webhooks (<https://www.standardwebhooks.com>) always, by a shared secret (`v1`) and
//! where the endpoint wants it by a key pair too (`v1a`), and the original service's `X-Webhook-Signature`, where its
//! secret is set.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

use crate::{EventId, Invalid, SigningRoot, Time, asymmetric::SigningKey};

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
        let bytes = text
            .strip_prefix(PREFIX)
            .and_then(|encoded| STANDARD.decode(encoded).ok());
        match bytes {
            // The bounds of Standard Webhooks: 192 to 512 bits.
            Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(Self(bytes.into())),
            _ => Err(Invalid(
                "must be whsec_ and base64 of 24 to 64 bytes".into(),
            )),
        }
    }

    /// The secret in the form that receivers' libraries take. To be shown to the endpoint's owner, never logged.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.0.expose_secret()))
    }
}

/// An endpoint's secrets: the current one, and those that it replaced and that still sign until their overlap ends, so
/// that a receiver may change over whenever it likes within it.
#[derive(Clone, Debug)]
pub struct Secrets {
    current: EndpointSecret,
    /// Newest first, each with the end of its overlap.
    retired: Vec<(Time, EndpointSecret)>,
    /// With it, `v1a` signatures are made as well.
    root: Option<SigningRoot>,
}

impl Secrets {
    /// Old secrets that may sign at a time: a header has no room for every one that was ever rotated.
    const MAX_RETIRED: usize = 4;

    /// A secret that replaced none.
    pub const fn new(current: EndpointSecret) -> Self {
        Self {
            current,
            retired: Vec::new(),
            root: None,
        }
    }

    /// Signs in the asymmetric scheme too.
    #[must_use]
    pub fn with_root(self, root: SigningRoot) -> Self {
        Self {
            root: Some(root),
            ..self
        }
    }

    /// The public key of the current secret's `v1a` signatures, `whpk_...`; `None` without that scheme.
    pub fn public_key(&self) -> Option<String> {
        self.key(&self.current).map(|key| key.public())
    }

    fn key(&self, secret: &EndpointSecret) -> Option<SigningKey> {
        self.root
            .as_ref()
            .map(|root| root.key(secret.0.expose_secret()))
    }

    /// Takes up `new`; what was current still signs until `until`.
    ///
    /// # Errors
    /// [`TooManyOverlaps`] if then more than four old secrets would sign.
    pub fn rotated(
        self,
        new: EndpointSecret,
        until: Time,
        now: Time,
    ) -> Result<Self, TooManyOverlaps> {
        let retired = std::iter::once((until, self.current)).chain(self.retired);
        // Overlaps that are over leave here, so that the row stays small however often a secret is rotated.
        let retired: Vec<_> = retired.filter(|(until, _)| *until > now).collect();
        // None may end early: each was promised until its time.
        if retired.len() > Self::MAX_RETIRED {
            return Err(TooManyOverlaps);
        }
        Ok(Self {
            current: new,
            retired,
            root: self.root,
        })
    }

    /// The one that new receivers are to be given.
    pub const fn current(&self) -> &EndpointSecret {
        &self.current
    }

    /// The end of each overlap that is not over, newest first.
    pub fn overlaps(&self, now: Time) -> impl Iterator<Item = Time> {
        self.retired
            .iter()
            .map(|(until, _)| *until)
            .filter(move |until| *until > now)
    }

    /// The value of `webhook-signature`: signatures for each secret that is valid when it is sent, divided by blanks;
    /// the current one's come first.
    pub fn signature(&self, id: EventId, sent_at: Time, body: &[u8]) -> String {
        let retired = self
            .retired
            .iter()
            // By the time of sending: a retry after the overlap is signed by the new secret alone.
            .filter(|(until, _)| *until > sent_at)
            .map(|(_, secret)| secret);
        let signatures = std::iter::once(&self.current).chain(retired);
        let signed = signed_content(id, sent_at, body);
        let signatures = signatures.flat_map(|secret| {
            let asymmetric = self.key(secret).map(|key| key.sign(&signed));
            std::iter::once(symmetric(secret, &signed)).chain(asymmetric)
        });
        signatures.collect::<Vec<_>>().join(" ")
    }

    /// The retired ones as text, to be encrypted and stored; `None` if there are none.
    pub fn expose_retired(&self) -> Option<String> {
        let line = |(until, secret): &(Time, EndpointSecret)| {
            format!("{} {}\n", until.as_micros(), secret.expose())
        };
        (!self.retired.is_empty()).then(|| self.retired.iter().map(line).collect())
    }

    /// Adds retired ones as they were stored.
    ///
    /// # Errors
    /// If the text is none of [`expose_retired`](Self::expose_retired)'s.
    pub fn with_retired(self, text: &str) -> Result<Self, Invalid> {
        let parse = |line: &str| {
            let (until, secret) = line
                .split_once(' ')
                .ok_or_else(|| Invalid("must be a time and a secret".into()))?;
            let until = until
                .parse()
                .map_err(|_| Invalid("must begin with a time".into()))?;
            Ok((Time::from_micros(until), EndpointSecret::parse(secret)?))
        };
        Ok(Self {
            retired: text.lines().map(parse).collect::<Result<_, _>>()?,
            ..self
        })
    }
}

/// As many old secrets still sign as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyOverlaps;

/// The value of `webhook-signature` for one secret: `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`.
pub fn standard_signature(
    secret: &EndpointSecret,
    id: EventId,
    sent_at: Time,
    body: &[u8],
) -> String {
    symmetric(secret, &signed_content(id, sent_at, body))
}

fn symmetric(secret: &EndpointSecret, signed: &[u8]) -> String {
    format!(
        "v1,{}",
        STANDARD.encode(hmac_sha256(secret.0.expose_secret(), &[signed]))
    )
}

fn signed_content(id: EventId, sent_at: Time, body: &[u8]) -> Vec<u8> {
    [format!("{id}.{}.", sent_at.as_seconds()).as_bytes(), body].concat()
}

/// The value of the original service's `X-Webhook-Signature`: `sha256=` and the hex HMAC-SHA256 of the body.
pub fn seed_signature(secret: &[u8], body: &[u8]) -> String {
    let hex: String = hmac_sha256(secret, &[body])
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256={hex}")
}

pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
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
        assert_eq!(
            signature,
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn the_reference_library_accepts_our_signature() {
        let secret = EndpointSecret::from_random([9; 32]);
        let id = EventId(crate::uuid_v4([1; 16]));
        let sent_at = crate::Clock::now(&crate::SystemClock);
        let signature = standard_signature(&secret, id, sent_at, b"{\"a\":1}");
        let reader =
            standardwebhooks::Webhook::new(&secret.expose()).expect("a secret it can read");
        assert_eq!(
            reader
                .sign(&id.to_string(), sent_at.as_seconds(), b"{\"a\":1}")
                .expect("signed"),
            signature
        );
        assert_ne!(
            reader
                .sign(&id.to_string(), sent_at.as_seconds(), b"{\"a\":2}")
                .expect("signed"),
            signature
        );
    }

    #[test]
    fn replaced_secrets_sign_until_their_overlap_ends() {
        let at = |seconds: i64| Time::from_micros(1_700_000_000_000_000 + seconds * 1_000_000);
        let secret = |byte| EndpointSecret::from_random([byte; 32]);
        let id = EventId(crate::uuid_v4([1; 16]));
        let rotated = Secrets::new(secret(1))
            .rotated(secret(2), at(100), at(0))
            .and_then(|secrets| secrets.rotated(secret(3), at(50), at(10)))
            .expect("few enough");
        let text = rotated.expose_retired().expect("two were replaced");
        let stored = Secrets::new(secret(3))
            .with_retired(&text)
            .expect("our own text");
        let signers = |now: Time| {
            let sent = stored.signature(id, now, b"body");
            let of = |byte| standard_signature(&secret(byte), id, now, b"body");
            let signers: Vec<u8> = (1..=3)
                .filter(|byte| sent.split(' ').any(|s| s == of(*byte)))
                .collect();
            assert_eq!(sent.split(' ').count(), signers.len());
            assert!(sent.starts_with(&of(3)));
            signers
        };
        assert_eq!(signers(at(20)), [1, 2, 3]);
        assert_eq!(signers(at(50)), [1, 3]);
        assert_eq!(signers(at(100)), [3]);
        assert_eq!(stored.overlaps(at(60)).collect::<Vec<_>>(), [at(100)]);
        let rotate =
            |secrets: Secrets, byte, until| secrets.rotated(secret(byte), at(until), at(20));
        let full = rotate(stored, 4, 200).and_then(|secrets| rotate(secrets, 5, 200));
        let full = full.expect("two and two");
        let more = rotate(full.clone(), 6, 200);
        assert_eq!(
            more.err(),
            Some(TooManyOverlaps),
            "none ends before its time"
        );
        let without = rotate(full.clone(), 6, 20).expect("no overlap, no place");
        assert_eq!(without.overlaps(at(20)).count(), Secrets::MAX_RETIRED);
        // The one that was replaced first ends at 100, another at 50.
        let later = full.rotated(secret(6), at(200), at(50));
        assert_eq!(later.expect("a place is free").overlaps(at(50)).count(), 4);
        assert!(
            Secrets::new(secret(1))
                .rotated(secret(2), at(0), at(0))
                .expect("the first")
                .expose_retired()
                .is_none(),
            "no overlap"
        );
        assert!(Secrets::new(secret(1)).with_retired("x").is_err());
    }

    #[test]
    fn every_valid_secret_signs_in_both_schemes() {
        let at = |seconds: i64| Time::from_micros(seconds * 1_000_000);
        let secret = |byte| EndpointSecret::from_random([byte; 32]);
        let one = Secrets::new(secret(1));
        assert_eq!(one.public_key(), None);
        let both = one.with_root(SigningRoot::new([7; 32]));
        let old = both.public_key().expect("a key");
        let rotated = both.rotated(secret(2), at(100), at(0)).expect("the first");
        assert_ne!(rotated.public_key().expect("another key"), old);
        let schemes = |now| {
            let signature = rotated.signature(EventId(crate::uuid_v4([1; 16])), now, b"body");
            signature
                .split(' ')
                .map(|one| one.split(',').next().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        };
        assert_eq!(schemes(at(1)).expect("schemes"), ["v1", "v1a", "v1", "v1a"]);
        assert_eq!(schemes(at(100)).expect("schemes"), ["v1", "v1a"]);
    }

    #[test]
    fn secrets_survive_showing_and_are_not_debugged() {
        let secret = EndpointSecret::from_random([5; 32]);
        let shown = secret.expose();
        assert_eq!(
            EndpointSecret::parse(&shown).map(|s| s.expose()),
            Ok(shown.clone())
        );
        assert!(!format!("{secret:?}").contains(&shown[PREFIX.len()..]));
        for bad in ["", "whsec_", "whsec_AAAA", "whsec_!!!!", &shown[1..]] {
            assert!(EndpointSecret::parse(bad).is_err());
        }
    }
}
