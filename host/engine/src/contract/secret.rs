//! Credentials of a plugin's requests, and the places where their secrets are kept.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use wharf_domain::AccessToken;

use super::inside::read_inside;

/// Bytes of a secret in a file.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// The beginning of the variables that grants may name. The host's own, its key among them, begin otherwise.
const ENV_PREFIX: &str = "WHARF_PLUGIN_";

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
    /// In a variable of the host's environment that begins with `WHARF_PLUGIN_`.
    Env(String),
    /// In a file of the folder of secrets, read anew for every request so that it can be rotated. One line end at its end
    /// is cut.
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
            Some(("env", name)) if name.starts_with(ENV_PREFIX) => Ok(Self::Env(name.to_owned())),
            // Whoever may push plugins must not reach what else the host keeps in its environment.
            Some(("env", _)) => Err(serde::de::Error::custom(format!(
                "only variables that begin with {ENV_PREFIX} may be granted"
            ))),
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
    pub(crate) fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Basic { user, password, .. } => vec![user, password],
            Self::Bearer { token, .. } => vec![token],
            Self::Header { value, .. } => vec![value],
        }
    }
}

impl Secret {
    /// Reads the secret's value; files lie in this folder. The reason of a failure never holds the value.
    pub(crate) fn read(
        &self,
        dir: Option<&Path>,
        access_token: Option<&AccessToken>,
    ) -> Result<SecretString, String> {
        match self {
            Self::Env(name) => std::env::var(name)
                .map(Into::into)
                .map_err(|_| format!("the variable {name} is not set")),
            Self::File(path) => {
                let dir = dir.ok_or("there is no folder of secret files here")?;
                read_file(dir, path).map_err(|error| {
                    let (path, dir) = (path.display(), dir.display());
                    format!(
                        "the file {path} cannot be read in the folder of secrets {dir}: {error}"
                    )
                })
            }
            Self::Store(StoreSecret::AccessToken) => access_token
                .map(|token| token.expose().into())
                .ok_or_else(|| "the store has no access token".into()),
        }
    }

    /// Checks that it can be read now. The store's own is known only when a call is made.
    pub(super) fn check(&self, dir: Option<&Path>) -> Result<(), String> {
        match self {
            Self::Store(_) => Ok(()),
            kept => kept.read(dir, None).map(drop),
        }
    }
}

fn read_file(dir: &Path, path: &Path) -> io::Result<SecretString> {
    let bytes = read_inside(dir, path, MAX_SECRET_BYTES)?;
    // Not the library's error, which would hold the bytes.
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    // Editors and `echo` end a file with a line end that is no part of the secret.
    let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| {
        line.strip_suffix('\r').unwrap_or(line)
    });
    Ok(secret.into())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "test code")]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn secrets_are_read_where_they_are_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("etsy"), "s3cret\r\n").expect("written");
        for path in ["etsy".into(), dir.path().join("etsy")] {
            let read = Secret::File(path).read(Some(dir.path()), None);
            assert_eq!(read.expect("a secret").expose_secret(), "s3cret");
        }
        let unset = Secret::Env("WHARF_PLUGIN_NO_SUCH_VARIABLE".into());
        assert!(unset.check(None).is_err());
        let store = Secret::Store(StoreSecret::AccessToken);
        assert!(store.check(None).is_ok() && store.read(None, None).is_err());
    }

    /// Whoever may grant may not read what else the host can.
    #[test]
    fn files_outside_the_folder_are_out_of_reach() {
        let (dir, host) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let key = host.path().join("encryption.key");
        fs::write(&key, "the host's key").expect("written");
        symlink(&key, dir.path().join("link")).expect("linked");
        let up = format!(
            "../{}/encryption.key",
            host.path().file_name().expect("a name").display()
        );
        for path in [key, "link".into(), up.into(), "/proc/self/environ".into()] {
            let refused = Secret::File(path.clone()).check(Some(dir.path()));
            let why = refused.expect_err("it is outside");
            assert!(
                why.contains("outside its folder"),
                "{}: {why}",
                path.display()
            );
            assert!(
                Secret::File(path).check(None).is_err(),
                "no folder, no files"
            );
        }
    }
}
