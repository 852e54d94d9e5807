//! Credentials of a plugin's requests, and the places where their secrets are kept.

#![allow(
    clippy::disallowed_methods,
    reason = "a small file of the operator's, read on the engine's own threads"
)]

use std::{collections::BTreeSet, path::PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use wharf_domain::AccessToken;

/// Bytes of a secret in a file.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A credential: its form in a request, and the origins that get it. No origins means all granted ones.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "scheme", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are the words of HTTP")]
pub enum Credential {
    /// `Authorization: Basic`.
    Basic {
        user: Secret,
        password: Secret,
        #[serde(default)]
        origins: BTreeSet<String>,
    },
    /// `Authorization: Bearer`.
    Bearer {
        token: Secret,
        #[serde(default)]
        origins: BTreeSet<String>,
    },
    /// A header of its own.
    Header {
        name: String,
        value: Secret,
        #[serde(default)]
        origins: BTreeSet<String>,
    },
}

/// The place of a secret. Its value is never part of the grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secret {
    /// In a variable of the host's environment.
    Env(String),
    /// In a file, read anew for every request so that it can be rotated. One line end at its end is cut.
    File(PathBuf),
    /// With the store that the call is for.
    Store(StoreSecret),
}

/// A secret that a store keeps for its marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreSecret {
    /// The access token that it was registered with.
    AccessToken,
}

/// Written by hand: a derived error would repeat a secret that somebody wrote in the open.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = toml::Value::deserialize(deserializer)?;
        let kept = table
            .as_table()
            .filter(|table| table.len() == 1)
            .and_then(|table| table.iter().next());
        match kept.and_then(|(place, value)| Some((place.as_str(), value.as_str()?))) {
            Some(("env", name)) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) => Ok(Self::File(path.into())),
            Some(("store", "access-token")) => Ok(Self::Store(StoreSecret::AccessToken)),
            // The value itself is not repeated: it may be a secret.
            _ => Err(serde::de::Error::custom(
                "a secret is named by where it is kept: { env = \"NAME\" }, { file = \"/path\" } or { store = \"access-token\" }",
            )),
        }
    }
}

impl Credential {
    /// Returns the origins that get it; empty means every granted origin.
    pub fn origins(&self) -> &BTreeSet<String> {
        match self {
            Self::Basic { origins, .. }
            | Self::Bearer { origins, .. }
            | Self::Header { origins, .. } => origins,
        }
    }

    /// Returns the origins to be changed.
    pub(super) fn origins_mut(&mut self) -> &mut BTreeSet<String> {
        match self {
            Self::Basic { origins, .. }
            | Self::Bearer { origins, .. }
            | Self::Header { origins, .. } => origins,
        }
    }

    /// Returns the secrets that it is made of.
    pub(super) fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Basic { user, password, .. } => vec![user, password],
            Self::Bearer { token, .. } => vec![token],
            Self::Header { value, .. } => vec![value],
        }
    }
}

impl Secret {
    /// Reads the secret's value. The reason of a failure never holds the value.
    pub(crate) fn read(&self, access_token: Option<&AccessToken>) -> Result<SecretString, String> {
        match self {
            Self::Env(name) => std::env::var(name)
                .map(Into::into)
                .map_err(|_| format!("the variable {name} is not set")),
            Self::File(path) => read_file(path)
                .map_err(|error| format!("the file {} cannot be read: {error}", path.display())),
            Self::Store(StoreSecret::AccessToken) => access_token
                .map(|token| token.expose().into())
                .ok_or_else(|| "the store has no access token".into()),
        }
    }

    /// Checks that it can be read now. The store's own is known only when a call is made.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Store(_) => Ok(()),
            kept => kept.read(None).map(drop),
        }
    }
}

fn read_file(path: &PathBuf) -> std::io::Result<SecretString> {
    let mut text = String::new();
    std::io::Read::read_to_string(
        // Bounded: the path may be a device without an end.
        &mut std::io::Read::take(std::fs::File::open(path)?, MAX_SECRET_BYTES),
        &mut text,
    )?;
    // Editors and `echo` end a file with a line end that is no part of the secret.
    let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| {
        line.strip_suffix('\r').unwrap_or(line)
    });
    Ok(secret.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_where_they_are_kept() {
        use secrecy::ExposeSecret;
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "s3cret\r\n").expect("written");
        let secret = Secret::File(file.path().into());
        assert_eq!(
            secret
                .read(None)
                .map(|value| value.expose_secret().to_owned()),
            Ok("s3cret".into())
        );
        assert!(
            Secret::Env("WHARF_NO_SUCH_VARIABLE".into())
                .check()
                .is_err()
        );
        let store = Secret::Store(StoreSecret::AccessToken);
        assert!(store.check().is_ok() && store.read(None).is_err());
    }
}
