//! The grants of a plugin: the file `plugins/<name>.toml`. A plugin gets what its manifest asks for and this file
//! grants, never more. Secrets stand here by reference alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    limits::{Limits, MAX_HTTP_REQUESTS, MAX_MEMORY_BYTES, MAX_OUTPUT_BYTES, MAX_WALL},
    manifest::{Manifest, checked_origin, is_key},
    refusal::{Refusal, Stage},
    secret::Credential,
    text::for_people,
};

/// The grants of one plugin. The default grants nothing beyond what every plugin has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Origins that it may reach over HTTP, such as `https://api.example.com`.
    pub origins: BTreeSet<String>,
    /// Networks that are forbidden to others (loopback, private, link-local) and allowed to it.
    pub private_networks: Vec<IpNet>,
    /// Answers of `config.get`. Never secrets.
    pub config: BTreeMap<String, String>,
    /// Credentials that the host adds to its requests, by the names that its manifest uses.
    pub credentials: BTreeMap<String, Credential>,
    /// Limits that differ from the defaults.
    pub limits: GrantedLimits,
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

impl Grants {
    /// Reads the file's text.
    ///
    /// # Errors
    /// A [`Refusal`] at [`Stage::Grant`] that names what is wrong in it.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut grants: Self =
            // `deny_unknown_fields`: a misspelt grant must be an error, not a missing right.
            toml::from_str(text).map_err(|error| refuse(mistake(text, &error)))?;
        let one_spelling = |origins: &BTreeSet<String>| -> Result<BTreeSet<String>, Refusal> {
            origins
                .iter()
                .map(|origin| checked_origin(origin).map_err(|fault| refuse(fault.to_string())))
                .collect()
        };
        // Compared as texts later, so there must be one spelling.
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

    /// Returns in words what the manifest asks for beyond the grants.
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

    /// Refuses credentials whose secrets cannot be read now. That may pass by itself: a mounted secret can come later.
    pub(crate) fn check_secrets(
        &self,
        credentials: &[String],
        dir: Option<&Path>,
    ) -> Result<(), Refusal> {
        let granted = credentials
            .iter()
            .filter_map(|name| self.credentials.get(name));
        for secret in granted.flat_map(Credential::secrets) {
            let readable = secret.check(dir);
            readable.map_err(|cause| refuse(cause).passing())?;
        }
        Ok(())
    }

    /// Returns the defaults with the granted limits put over them.
    pub(crate) fn limits(&self, defaults: Limits) -> Limits {
        let granted = &self.limits;
        let mut limits = defaults;
        limits.cpu = granted.cpu_ms.map_or(limits.cpu, Duration::from_millis);
        limits.wall = granted.wall_ms.map_or(limits.wall, Duration::from_millis);
        limits.memory_bytes = granted.memory_bytes.unwrap_or(limits.memory_bytes);
        limits.output_bytes = granted.output_bytes.unwrap_or(limits.output_bytes);
        limits.log_bytes = granted.log_bytes.unwrap_or(limits.log_bytes);
        // A limit alone opens no network: shapers have none.
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
        // Processor time beyond the wall-clock limit would never be reached.
        within("cpu_ms", self.cpu_ms, wall)?;
        within("wall_ms", self.wall_ms, wall)?;
        within(
            "memory_bytes",
            bytes(self.memory_bytes),
            MAX_MEMORY_BYTES as u64,
        )?;
        within(
            "output_bytes",
            bytes(self.output_bytes),
            MAX_OUTPUT_BYTES as u64,
        )?;
        within("log_bytes", bytes(self.log_bytes), MAX_OUTPUT_BYTES as u64)?;
        within(
            "http_requests",
            self.http_requests.map(u64::from),
            MAX_HTTP_REQUESTS.into(),
        )?;
        within(
            "http_body_bytes",
            bytes(self.http_body_bytes),
            MAX_OUTPUT_BYTES as u64,
        )?;
        within("http_timeout_ms", self.http_timeout_ms, wall)
    }
}

/// Returns the text of a grants file. TOML is UTF-8, and a byte that was replaced would grant something else.
pub(crate) fn utf8(bytes: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        refuse(format!("line {line}: it is not UTF-8"))
    })
}

/// Names the line and does not show it: a secret may stand there.
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
            user = { env = "WHARF_PLUGIN_ETSY_USER" }
            password = { file = "etsy" }
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
                "[credentials.a]\nscheme = 'basic'\nuser = { env = 'WHARF_PLUGIN_A' }",
                "password",
            ),
            (
                "[credentials.a]\nscheme = 'bearer'\ntoken = 'in the open'",
                "where it is kept",
            ),
            (
                "[credentials.a]\nscheme = 'header'\nname = 'a b'\nvalue = { env = 'WHARF_PLUGIN_A' }",
                "a b",
            ),
            (
                "[credentials.a]\nscheme = 'bearer'\ntoken = { env = 'WHARF_ENCRYPTION_KEY' }",
                "begin with WHARF_PLUGIN_",
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
    fn grants_are_utf8() {
        assert_eq!(utf8(b"[config]\n".to_vec()).as_deref(), Ok("[config]\n"));
        let refusal =
            utf8(b"[config]\nbase_url = 'http://caf\xe9'\n".to_vec()).expect_err("Latin-1");
        assert_eq!(
            (refusal.stage, refusal.cause.as_str()),
            (Stage::Grant, "line 2: it is not UTF-8")
        );
    }
}
