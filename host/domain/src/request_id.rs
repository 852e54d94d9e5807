//! The id of a request, by which people find everything that it caused.

use std::fmt;

/// The id of a request: a client's own, or one that the host made. Harmless in a log: at most 128 ASCII letters, digits
/// and a few marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The most characters: every line of the log about the request repeats them.
    pub const MAX: usize = 128;

    /// Takes a client's id; `None` if it is empty, too long or holds anything else, such as a blank or a quote: a client
    /// must not be able to forge lines of the log.
    pub fn parse(text: &str) -> Option<Self> {
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
        let valid = (1..=Self::MAX).contains(&text.len()) && text.bytes().all(harmless);
        valid.then(|| Self(text.to_owned()))
    }

    /// An id that was checked before it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The id itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<uuid::Uuid> for RequestId {
    fn from(id: uuid::Uuid) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::RequestId;

    #[test]
    fn harmless_ids_are_taken_and_others_not() {
        for id in [
            "a",
            "0190a5e4-7b1c-7def-8abc-0123456789ab",
            "Root=1-67891233-abcdef",
        ] {
            assert!(RequestId::parse(id).is_some(), "{id}");
        }
        for id in ["", "a b", "a\tb", "\u{ff}", "\"", &"x".repeat(129)] {
            assert!(RequestId::parse(id).is_none(), "{id:?}");
        }
    }
}
