//! What an operator grants a plugin: the file `plugins/<name>.toml`. A plugin gets what its manifest asks for and this
//! file grants, never more. Secrets stand here by reference alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use wharf_domain::AccessToken;

use crate::convert::{checked_origin, for_people, is_key};
use crate::sandbox::MAX_MEMORY;
use crate::{Limits, Manifest, Refusal, Stage};

/// A secret in a file is at most this long, in bytes.
const MAX_SECRET: u64 = 64 * 1024;
const MAX_WALL: Duration = Duration::from_secs(5 * 60);
const MAX_OUTPUT: usize = 64 * 1024 * 1024;

/// The grants of one plugin. The default grants nothing beyond what every plugin has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Origins that it may reach over HTTP, such as `https://api.example.com`.
    pub origins: BTreeSet<String>,
    /// Networks that are refused otherwise (loopback, private, link-local) and allowed to it.
    pub private_networks: Vec<IpNet>,
    /// What `config.get` answers. Never secrets.
    pub config: BTreeMap<String, String>,
    /// Credentials that the host adds to its requests, by the names that its manifest uses.
    pub credentials: BTreeMap<String, Credential>,
    /// Limits that differ from the defaults.
    pub limits: GrantedLimits,
}

/// A credential, how it is put into a request and where it is sent; no origins are all granted ones.
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

/// Where a secret is kept. Its value is never part of the grants.
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

/// What a store keeps that can be sent to its marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreSecret {
    /// The access token that it was registered with.
    AccessToken,
}

/// Limits of one call that differ from the defaults; a larger value is a grant, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[allow(
    missing_docs,
    reason = "the same as in `Limits`, with their units in their names"
)]
pub struct GrantedLimits {
    pub cpu_ms: Option<u64>,
    pub wall_ms: Option<u64>,
    pub memory_bytes: Option<usize>,
    pub output_bytes: Option<usize>,
    pub log_bytes: Option<usize>,
    pub http_requests: Option<u32>,
    pub http_body_bytes: Option<usize>,
    pub http_timeout_ms: Option<u64>,
}

/// By hand, so that the message about a secret that somebody wrote in the open does not repeat it.
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
            _ => Err(serde::de::Error::custom(
                "a secret is named by where it is kept: { env = \"NAME\" }, { file = \"/path\" } or { store = \"access-token\" }",
            )),
        }
    }
}

impl Grants {
    /// Reads the file's text.
    ///
    /// # Errors
    /// A [`Refusal`] at [`Stage::Grant`] that names what is wrong in it.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut grants: Self =
            toml::from_str(text).map_err(|error| refuse(mistake(text, &error)))?;
        let one_spelling = |origins: &BTreeSet<String>| -> Result<BTreeSet<String>, Refusal> {
            origins
                .iter()
                .map(|origin| checked_origin(origin).map_err(|fault| refuse(fault.to_string())))
                .collect()
        };
        grants.origins = one_spelling(&grants.origins)?;
        for (name, credential) in &mut grants.credentials {
            if !is_key(name) {
                return Err(refuse(format!("{name:?} is no name of a credential")));
            }
            if let Credential::Header { name, .. } = credential
                && http::HeaderName::from_bytes(name.as_bytes()).is_err()
            {
                return Err(refuse(format!("{name:?} is no name of a header")));
            }
            let origins = credential.origins_mut();
            *origins = one_spelling(origins)?;
        }
        grants.limits.check()?;
        Ok(grants)
    }

    /// What the manifest asks for beyond this, in words; empty if nothing.
    pub(crate) fn missing(&self, manifest: &Manifest) -> Vec<String> {
        let Manifest::Adapter(manifest) = manifest else {
            return Vec::new();
        };
        let origins = manifest
            .wanted_origins
            .iter()
            .filter(|origin| !self.origins.contains(*origin));
        let credentials = manifest
            .credentials
            .iter()
            .filter(|name| !self.credentials.contains_key(*name));
        origins
            .map(|origin| format!("the origin {origin}"))
            .chain(credentials.map(|name| format!("the credential {name}")))
            .collect()
    }

    /// The defaults with what is granted put over them.
    pub(crate) fn limits(&self, defaults: Limits) -> Limits {
        let granted = &self.limits;
        let mut limits = defaults;
        limits.cpu = granted.cpu_ms.map_or(limits.cpu, Duration::from_millis);
        limits.wall = granted.wall_ms.map_or(limits.wall, Duration::from_millis);
        limits.memory_bytes = granted.memory_bytes.unwrap_or(limits.memory_bytes);
        limits.output_bytes = granted.output_bytes.unwrap_or(limits.output_bytes);
        limits.log_bytes = granted.log_bytes.unwrap_or(limits.log_bytes);
        if let Some(http) = &mut limits.http {
            http.requests = granted.http_requests.unwrap_or(http.requests);
            http.body_bytes = granted.http_body_bytes.unwrap_or(http.body_bytes);
            http.timeout = granted
                .http_timeout_ms
                .map_or(http.timeout, Duration::from_millis);
        }
        limits
    }
}

impl GrantedLimits {
    fn check(&self) -> Result<(), Refusal> {
        let wall = u64::try_from(MAX_WALL.as_millis()).unwrap_or(u64::MAX);
        let within = |name: &str, value: Option<u64>, most: u64| match value {
            Some(value) if value == 0 || value > most => {
                Err(refuse(format!("limits.{name} must be 1 to {most}")))
            }
            _ => Ok(()),
        };
        let bytes = |value: Option<usize>| value.map(|value| value as u64);
        within("cpu_ms", self.cpu_ms, wall)?;
        within("wall_ms", self.wall_ms, wall)?;
        within("memory_bytes", bytes(self.memory_bytes), MAX_MEMORY as u64)?;
        within("output_bytes", bytes(self.output_bytes), MAX_OUTPUT as u64)?;
        within("log_bytes", bytes(self.log_bytes), MAX_OUTPUT as u64)?;
        within("http_requests", self.http_requests.map(u64::from), 10_000)?;
        within(
            "http_body_bytes",
            bytes(self.http_body_bytes),
            MAX_OUTPUT as u64,
        )?;
        within("http_timeout_ms", self.http_timeout_ms, wall)
    }
}

impl Credential {
    /// Where it is sent; empty is every granted origin.
    pub fn origins(&self) -> &BTreeSet<String> {
        match self {
            Self::Basic { origins, .. }
            | Self::Bearer { origins, .. }
            | Self::Header { origins, .. } => origins,
        }
    }

    fn origins_mut(&mut self) -> &mut BTreeSet<String> {
        match self {
            Self::Basic { origins, .. }
            | Self::Bearer { origins, .. }
            | Self::Header { origins, .. } => origins,
        }
    }

    /// The secrets that it is made of.
    pub(crate) fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Basic { user, password, .. } => vec![user, password],
            Self::Bearer { token, .. } => vec![token],
            Self::Header { value, .. } => vec![value],
        }
    }
}

impl Secret {
    /// The secret's value, or what keeps it from being read. The reason never holds the value.
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

    /// Whether it could be read now; the store's own is known only when a call is made.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Store(_) => Ok(()),
            kept => kept
                .read(None)
                .map(drop)
                .map_err(|cause| refuse(cause).passing()),
        }
    }
}

fn read_file(path: &PathBuf) -> std::io::Result<SecretString> {
    let mut text = String::new();
    std::io::Read::read_to_string(
        &mut std::io::Read::take(std::fs::File::open(path)?, MAX_SECRET),
        &mut text,
    )?;
    let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| {
        line.strip_suffix('\r').unwrap_or(line)
    });
    Ok(secret.into())
}

/// Names the line, and does not show it: a secret may stand there.
fn mistake(text: &str, error: &toml::de::Error) -> String {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map_or(1, |before| before.lines().count().max(1));
    format!("line {line}: {}", error.message())
}

fn refuse(cause: impl AsRef<str>) -> Refusal {
    Refusal::new(
        Stage::Grant,
        for_people(cause.as_ref()),
        "correct the plugin's .toml file",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_is_understood() {
        let grants = Grants::parse(
            r#"
            origins = ["http://127.0.0.1:3000", "https://API.example.com:443"]
            private_networks = ["127.0.0.0/8"]
            [config]
            base_url = "http://127.0.0.1:3000"
            [credentials.marketplace]
            scheme = "basic"
            user = { env = "MOCK_ETSY_USER" }
            password = { file = "/run/secrets/etsy" }
            origins = ["http://127.0.0.1:3000/"]
            [credentials.store]
            scheme = "bearer"
            token = { store = "access-token" }
            [limits]
            cpu_ms = 100
            http_requests = 2
            "#,
        )
        .expect("grants");
        assert!(
            grants.origins.contains("https://api.example.com"),
            "one spelling"
        );
        assert_eq!(
            grants.credentials["marketplace"]
                .origins()
                .first()
                .map(String::as_str),
            Some("http://127.0.0.1:3000")
        );
        let limits = grants.limits(Limits::ADAPTER);
        assert_eq!(
            (limits.cpu, limits.wall),
            (Duration::from_millis(100), Limits::ADAPTER.wall)
        );
        assert_eq!(limits.http.map(|http| http.requests), Some(2));
        assert_eq!(
            grants.limits(Limits::SHAPER).http,
            None,
            "a shaper gets no network by a limit"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("origin = []", "origin"),
            ("origins = ['example.com']", "example.com"),
            (
                "[credentials.a]\nscheme = 'basic'\nuser = { env = 'A' }",
                "password",
            ),
            (
                "[credentials.a]\nscheme = 'bearer'\ntoken = 'in the open'",
                "where it is kept",
            ),
            (
                "[credentials.a]\nscheme = 'header'\nname = 'a b'\nvalue = { env = 'A' }",
                "a b",
            ),
            ("[limits]\ncpu_ms = 0", "cpu_ms"),
            ("[limits]\nmemory_bytes = 99999999999", "memory_bytes"),
            ("private_networks = ['10.0.0.0/99']", "line 1"),
            ("[config]\nnot toml", "line 2"),
        ] {
            let refusal = Grants::parse(text).expect_err(text);
            assert!(
                refusal.stage == Stage::Grant && refusal.cause.contains(named),
                "{text}: {refusal}"
            );
            assert!(!refusal.cause.contains("in the open"), "{refusal}");
        }
    }

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
