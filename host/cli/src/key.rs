//! The key that secrets are encrypted with at rest.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::STANDARD};

const KEY_BYTES: usize = 32;

/// Reads 32 bytes in base64 or in hexadecimal digits.
pub(crate) fn parse(text: &str) -> Option<[u8; KEY_BYTES]> {
    let text = text.trim();
    let bytes = if text.len() == 2 * KEY_BYTES && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
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
    if !path.exists() {
        make(path)?;
    }
    parse(&fs::read_to_string(path)?).context("it holds no key: 32 bytes in base64 or hexadecimal digits")
}

/// Written beside, readable for its owner alone, and put in place whole and only where there is none: of two processes
/// that start together, both read the same key.
fn make(path: &Path) -> anyhow::Result<()> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key)?;
    let mut file = tempfile::NamedTempFile::new_in(path.parent().context("it has no folder")?)?;
    writeln!(file, "{}", STANDARD.encode(key))?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(refused) if refused.error.kind() != io::ErrorKind::AlreadyExists => Err(refused.error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_come_in_two_spellings() {
        assert_eq!(parse(&"0a".repeat(32)), Some([10; 32]));
        assert_eq!(parse(&"FF".repeat(32)), Some([255; 32]));
        assert_eq!(parse(&format!("{}\n", STANDARD.encode([7; 32]))), Some([7; 32]));
        for bad in ["", "secret", &"0a".repeat(31), &"+a".repeat(32), &STANDARD.encode([7; 31]), &"ü".repeat(32)] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_file_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| from_file(&path).expect("a key"))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(keys.len(), 4);
        assert!(keys.iter().all(|key| *key == from_file(&path).expect("a key")));
        assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1);
    }
}
