//! API keys as texts: `wharf_<kind>_<body>_<secret>_<checksum>`, all in lower-case hexadecimal digits behind the kind.
//!
//! The checksum is no protection. It lets scanners of source code tell a key from noise, and a host refuse a typing error
//! without asking anybody.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::OrganizationId;

/// Every key begins so.
const BRAND: &str = "wharf";
/// The longest key: a portal token for an organization of 255 characters of four bytes each.
const MAX_LENGTH: usize = 2_304;
const SECRET: usize = 32;
const CHECKSUM: usize = 4;

/// The kind of a key, which is told at sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// An organization's.
    Organization,
    /// An operator's.
    Operator,
    /// A short-lived token for one organization, to be given to a browser.
    Portal,
}

impl KeyKind {
    const ALL: [Self; 3] = [Self::Organization, Self::Operator, Self::Portal];

    /// The word in the key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "org",
            Self::Operator => "op",
            Self::Portal => "portal",
        }
    }
}

/// The parts of a key. Never shown by `Debug`, because one of them is the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText {
    /// Its kind.
    pub kind: KeyKind,
    /// A key's id; what a portal token says.
    pub body: Vec<u8>,
    /// The secret; of a portal token its signature.
    pub secret: [u8; SECRET],
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({}, ..)", self.kind.as_str())
    }
}

impl KeyText {
    /// Reads a key. `None` for anything else, and for one with a typing error.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (signed, checksum) = text.rsplit_once('_')?;
        if read::<CHECKSUM>(checksum)? != checksum_of(signed) {
            return None;
        }
        let mut parts = signed.split('_');
        let (brand, kind, body, secret) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if brand != BRAND || parts.next().is_some() {
            return None;
        }
        Some(Self {
            kind: KeyKind::ALL.into_iter().find(|one| one.as_str() == kind)?,
            body: bytes(body)?,
            secret: read(secret)?,
        })
    }

    /// Tells if somebody meant this to be a key, right or wrong.
    pub fn is_meant(text: &str) -> bool {
        text.strip_prefix(BRAND)
            .is_some_and(|rest| rest.starts_with('_'))
    }

    /// The text, which is a secret.
    pub fn expose(&self) -> String {
        let (body, secret) = (hex(&self.body), hex(&self.secret));
        let signed = format!("{BRAND}_{}_{body}_{secret}", self.kind.as_str());
        let checksum = hex(&checksum_of(&signed));
        format!("{signed}_{checksum}")
    }

    /// A name for this key in caches, from which the key cannot be had.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.kind.as_str())
            // The only part without a fixed length stands last.
            .chain_update(self.secret)
            .chain_update(&self.body)
            .finalize()
            .into()
    }
}

fn checksum_of(signed: &str) -> [u8; CHECKSUM] {
    let mut checksum = [0; CHECKSUM];
    checksum.copy_from_slice(&Sha256::digest(signed)[..CHECKSUM]);
    checksum
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower case alone: a key has one spelling, so that what is found by a search is all there is.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    bytes(text)?.try_into().ok()
}

/// The organizations that somebody may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    Everything,
    /// This one. Others do not exist for them.
    Organization(OrganizationId),
}

impl Reach {
    /// True where they may touch what is this organization's.
    pub fn covers(&self, organization: &OrganizationId) -> bool {
        match self {
            Self::Everything => true,
            Self::Organization(own) => own == organization,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> KeyText {
        KeyText {
            kind: KeyKind::Organization,
            body: vec![1; 16],
            secret: [7; 32],
        }
    }

    #[test]
    fn a_key_has_one_spelling() {
        let text = example().expose();
        assert_eq!(
            text,
            format!(
                "wharf_org_{}_{}_{}",
                "01".repeat(16),
                "07".repeat(32),
                &text[text.len() - 8..]
            )
        );
        assert_eq!(KeyText::parse(&text), Some(example()));
        for bad in [
            String::new(),
            "wharf".into(),
            text.to_uppercase(),
            format!(" {text}"),
            format!("{text}\n"),
            text.replace("_org_", "_op_"),
            text.replace("_org_", "_nobody_"),
            text[..text.len() - 1].to_owned(),
            "wharf_org_".repeat(1_000),
        ] {
            assert_eq!(KeyText::parse(&bad), None, "{bad}");
        }
        assert!(KeyText::is_meant("wharf_org_typo") && !KeyText::is_meant("wharfs"));
        assert!(!format!("{:?}", example()).contains("07"));
    }

    #[test]
    fn an_organization_reaches_its_own() {
        let [one, other] = ["a", "b"].map(|name| OrganizationId::parse(name).expect("a name"));
        let reach = Reach::Organization(one.clone());
        assert!(reach.covers(&one) && !reach.covers(&other));
        assert!(Reach::Everything.covers(&other));
    }

    fn kinds() -> impl Strategy<Value = KeyKind> {
        proptest::sample::select(KeyKind::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn every_key_is_read_again(
            kind in kinds(), body in proptest::collection::vec(any::<u8>(), 1..1_060), secret in any::<[u8; 32]>(),
        ) {
            let key = KeyText { kind, body, secret };
            prop_assert_eq!(KeyText::parse(&key.expose()), Some(key));
        }

        /// Any one wrong character, left out or put in, is noticed.
        #[test]
        fn typing_errors_are_found(at in 0_usize..116, letter in "[0-9a-z_]", how in 0..3) {
            let right = example().expose();
            prop_assert_eq!(right.len(), 116);
            let (before, after) = right.split_at(at);
            let wrong = match how {
                0 => format!("{before}{letter}{}", &after[1..]),
                1 => format!("{before}{letter}{after}"),
                _ => format!("{before}{}", &after[1..]),
            };
            prop_assert_eq!(KeyText::parse(&wrong).is_some(), wrong == right, "{}", wrong);
        }

        #[test]
        fn nothing_else_is_a_key(text in "(wharf_)?.{0,200}") {
            prop_assert!(KeyText::parse(&text).is_none());
        }
    }
}
