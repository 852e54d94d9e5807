//! The key that secrets are encrypted with at rest.

use std::path::Path;

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::secret_file;

const KEY_BYTES: usize = 32;

/// Reads 32 bytes in base64 or in hexadecimal digits.
pub(crate) fn parse(text: &str) -> Option<[u8; KEY_BYTES]> {
    let text = text.trim();
    let bytes =
        if text.len() == 2 * KEY_BYTES && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            let pairs = (0..KEY_BYTES).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16));
            pairs.collect::<Result<Vec<_>, _>>().ok()?
        } else {
            STANDARD.decode(text).ok()?
        };
    bytes.try_into().ok()
}

/// The embedded default's key: a file that only its owner may read, made at the first start.
///
/// # Errors
/// If the file cannot be made or read, or holds no key.
pub(crate) fn from_file(path: &Path) -> anyhow::Result<[u8; KEY_BYTES]> {
    read_or_make(path).with_context(|| format!("the key file {}", path.display()))
}

fn read_or_make(path: &Path) -> anyhow::Result<[u8; KEY_BYTES]> {
    let (text, _) = secret_file::read_or_make(path, || {
        Ok(STANDARD.encode(wharf_app::random::<KEY_BYTES>()))
    })?;
    parse(&text).context("it holds no key: 32 bytes in base64 or hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_two_spellings() {
        assert_eq!(parse(&"0a".repeat(32)), Some([10; 32]));
        assert_eq!(parse(&"FF".repeat(32)), Some([255; 32]));
        assert_eq!(
            parse(&format!("{}\n", STANDARD.encode([7; 32]))),
            Some([7; 32])
        );
        for bad in [
            "",
            "secret",
            &"0a".repeat(31),
            &"+a".repeat(32),
            &STANDARD.encode([7; 31]),
            &"ü".repeat(32),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
