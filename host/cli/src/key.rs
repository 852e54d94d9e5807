//! The keys that secrets are encrypted with at rest: from the setting or from the key file, and held against the database
//! before anything starts.

use std::path::Path;

use anyhow::{Context, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use wharf_domain::{Clock, SystemClock};
use wharf_store::{EncryptionKey, KeyRing, Ledger, canary};

use crate::{
    secret::Secret,
    secret_file,
    settings::{DataArgs, DatabaseArgs, Deployment, SettingError},
};

const KEY_BYTES: usize = 32;
/// Keys of a ring. A rotation needs two; every further one is tried at every start and shown in every message.
const MAX_KEYS: usize = 8;

/// The keys.
#[derive(Args, Clone, Debug)]
pub(crate) struct KeyArgs {
    #[arg(skip = Secret::of_environment("WHARF_ENCRYPTION_KEY"))]
    pub(crate) encryption_key: Secret,
}

impl KeyArgs {
    /// Refuses what is no key.
    pub(crate) fn check_form(&self) -> Result<(), SettingError> {
        self.encryption_key.check(|text| match parse(text) {
            Some(_) => Ok(()),
            None => Err(
                "must be 32 bytes in base64 or hexadecimal digits, or at most 8 such keys divided by commas, the newest first",
            ),
        })
    }

    /// Refuses what is no key, and PostgreSQL without any.
    pub(crate) fn check(&self, database: &DatabaseArgs) -> Result<(), SettingError> {
        self.check_form()?;
        if self.encryption_key.value().is_none() && database.deployment() == Deployment::Shared {
            return Err(SettingError::new(
                "WHARF_ENCRYPTION_KEY",
                "must be set with PostgreSQL, the same for every process; `openssl rand -base64 32` makes one",
            ));
        }
        Ok(())
    }

    /// The keys that are given, if any are: nothing is made.
    ///
    /// # Errors
    /// If the key file cannot be read.
    pub(crate) fn given(&self, data: &DataArgs) -> anyhow::Result<Option<KeyRing>> {
        let file = data.data_dir.join("key");
        match self.of_setting() {
            Some(keys) => Ok(Some(keys)),
            // Looked for, never made: whoever only asks for the state must not leave a key behind.
            None if file.exists() => from_file(&file).map(Some),
            None => Ok(None),
        }
    }

    /// The keys that are given; a key file is made where there are none.
    ///
    /// # Errors
    /// If the key file cannot be made or read.
    pub(crate) fn given_or_made(&self, data: &DataArgs) -> anyhow::Result<KeyRing> {
        match self.of_setting() {
            Some(keys) => Ok(keys),
            None => from_file(&data.data_dir.join("key")),
        }
    }

    /// The keys, held against what the database was sealed with. A key file is made only for a database that holds
    /// nothing sealed yet.
    ///
    /// # Errors
    /// If the key file is lost, or the keys are not the database's; the message says what to do.
    pub(crate) async fn open(&self, data: &DataArgs, ledger: &Ledger) -> anyhow::Result<KeyRing> {
        if self.encryption_key.value().is_none() {
            // Before `given_or_made`: a key file made anew would hide that the old one is lost.
            refuse_lost_file(&data.data_dir.join("key"), ledger).await?;
        }
        let keys = self.given_or_made(data)?;
        // Before anything starts: a process with a wrong key would seal what no other can read.
        wharf_app::check_keys(ledger, &keys, SystemClock.now()).await?;
        Ok(keys)
    }

    fn of_setting(&self) -> Option<KeyRing> {
        parse(self.encryption_key.expose()?)
    }
}

/// A new key beside a database that an old one sealed would make every secret in it unreadable.
async fn refuse_lost_file(file: &Path, ledger: &Ledger) -> anyhow::Result<()> {
    // Before the file is looked for: whoever sealed something had made it.
    let needed = canary::needed(&mut ledger.read().await?).await?;
    if needed.is_empty() || file.exists() {
        return Ok(());
    }
    let ids: Vec<String> = needed.iter().map(ToString::to_string).collect();
    bail!(
        "the key file {} is missing, and the database is sealed with key {}. Put the file back, or set \
         WHARF_ENCRYPTION_KEY to that key; no new one was made. If the key is lost for good: `wharf keys abandon --help`",
        file.display(),
        ids.join(", ")
    )
}

/// Reads keys that are divided by commas.
fn parse(text: &str) -> Option<KeyRing> {
    let keys = text
        .split(',')
        .map(|key| parse_one(key).map(EncryptionKey::new));
    // One wrong key refuses all: left out in silence, what it sealed would be unreadable.
    let mut keys = keys.collect::<Option<Vec<_>>>()?.into_iter();
    if keys.len() > MAX_KEYS {
        return None;
    }
    Some(KeyRing::new(keys.next()?, keys))
}

/// Reads 32 bytes in base64 or in hexadecimal digits.
fn parse_one(text: &str) -> Option<[u8; KEY_BYTES]> {
    let text = text.trim();
    let bytes =
        // Hexadecimal first: 64 such digits are base64 too, of 48 bytes.
        if text.len() == 2 * KEY_BYTES && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            let pairs = (0..KEY_BYTES).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16));
            pairs.collect::<Result<Vec<_>, _>>().ok()?
        } else {
            STANDARD.decode(text).ok()?
        };
    bytes.try_into().ok()
}

/// The embedded default's key: a file that only its owner may read, made at the first start. A line may hold several
/// keys, as the setting does.
fn from_file(path: &Path) -> anyhow::Result<KeyRing> {
    read_or_make(path).with_context(|| format!("the key file {}", path.display()))
}

fn read_or_make(path: &Path) -> anyhow::Result<KeyRing> {
    let (text, _) = secret_file::read_or_make(path, || {
        Ok(STANDARD.encode(wharf_app::random::<KEY_BYTES>()))
    })?;
    parse(&text).context("it holds no key: 32 bytes in base64 or hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Option<Vec<String>> {
        parse(text).map(|keys| keys.ids().map(|id| id.to_string()).collect())
    }

    #[test]
    fn keys_come_in_two_spellings() {
        assert_eq!(parse_one(&"0a".repeat(32)), Some([10; 32]));
        assert_eq!(parse_one(&"FF".repeat(32)), Some([255; 32]));
        assert_eq!(
            parse_one(&format!("{}\n", STANDARD.encode([7; 32]))),
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
            assert_eq!(parse_one(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_ring_has_its_keys_in_order() {
        let (new, old) = ("0b".repeat(32), STANDARD.encode([10; 32]));
        let both = ids(&format!("{new}, {old}\n")).expect("two keys");
        assert_eq!(
            both,
            [ids(&new), ids(&old)].map(|one| one.expect("a key")[0].clone())
        );
        for bad in [
            format!("{new},"),
            format!(",{new}"),
            format!("{new},secret"),
        ] {
            assert_eq!(ids(&bad), None, "{bad}");
        }
        assert!(ids(&[new.as_str(); MAX_KEYS].join(",")).is_some());
        assert_eq!(ids(&[new.as_str(); MAX_KEYS + 1].join(",")), None);
    }
}
