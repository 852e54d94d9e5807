//! The network of one revision: origins, credentials and body limits. Addresses are judged by `wharf-egress`.
//!
//! The origin must be asked for and granted. Credentials are added here, where no guest can see them. Redirects are
//! never followed: the guest gets the answer, and its own request to the new place is judged anew.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use wasmtime_wasi_http::{Error, WasiBody};
use wharf_domain::{AccessToken, AddressPolicy};
use wharf_egress::{Forbidden, Guard, Resolver};

use crate::contract::{
    grants::Grants, limits::HttpLimits, manifest::AdapterManifest, secret::Credential,
};

/// The origins that one revision may reach, and the credentials it sends there.
pub(crate) struct Network {
    origins: BTreeSet<String>,
    credentials: BTreeMap<String, Credential>,
    guard: Guard,
    limits: HttpLimits,
    secrets_dir: Option<PathBuf>,
    resolver: Arc<dyn Resolver>,
    /// One pool of connections per revision, made when the first request is.
    client: OnceLock<Result<wharf_egress::GuardedClient, String>>,
}

impl Network {
    /// Returns the part of the grants that the manifest asks for.
    pub(crate) fn new(
        manifest: &AdapterManifest,
        grants: &Grants,
        limits: HttpLimits,
        secrets_dir: Option<PathBuf>,
        resolver: Arc<dyn Resolver>,
    ) -> Self {
        let wanted = |name: &String| manifest.credentials.contains(name);
        Self {
            origins: manifest
                .wanted_origins
                .iter()
                .filter(|&o| grants.origins.contains(o))
                .cloned()
                .collect(),
            credentials: grants
                .credentials
                .clone()
                .into_iter()
                .filter(|(name, _)| wanted(name))
                .collect(),
            guard: Guard::for_plugins(AddressPolicy {
                allowed: grants.private_networks.clone(),
            }),
            limits,
            secrets_dir,
            resolver,
            client: OnceLock::new(),
        }
    }

    /// Tells if any origin was asked for and granted.
    pub(crate) fn reaches_anybody(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Sends a request, or says why it may not leave.
    pub(crate) async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        first_byte: Option<Duration>,
        access_token: Option<AccessToken>,
    ) -> Result<Response<WasiBody>, Error> {
        let (parts, body) = request.into_parts();
        // Read to its end before anything is refused: a guest that is still writing would see a broken stream instead
        // of the reason.
        let body = self.collect(body).await?;
        let url = self.permitted(&parts.method, &parts.uri)?;
        let mut headers = parts.headers;
        // The client sets both from what is really sent.
        headers.remove(HOST);
        headers.remove(CONTENT_LENGTH);
        self.add_credentials(&url, &mut headers, access_token.as_ref())?;
        let sent = self.client()?.send(wharf_egress::Request {
            method: parts.method,
            url,
            headers,
            body,
            deadline: Instant::now() + self.limits.timeout,
        });
        // The guest may wait less than the limit, never more.
        let first_byte = first_byte
            .unwrap_or(self.limits.timeout)
            .min(self.limits.timeout);
        let answer = tokio::time::timeout(first_byte, sent)
            .await
            .map_err(|_| Error::ConnectionReadTimeout)?;
        let answer = answer.map_err(|error| reason(&error))?;
        Ok(answer.map(|body| self.bounded(body)))
    }

    pub(super) async fn collect(&self, body: WasiBody) -> Result<bytes::Bytes, Error> {
        let max = self.limits.body_bytes;
        let collected = Limited::new(body, max).collect().await.map_err(|error| {
            match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(_) => Error::HttpRequestBodySize(Some(max as u64)),
            }
        })?;
        Ok(collected.to_bytes())
    }

    fn bounded(&self, body: wharf_egress::AnswerBody) -> WasiBody {
        let max = self.limits.body_bytes;
        let reason = move |error: Box<dyn StdError + Send + Sync>| {
            if error.is::<LengthLimitError>() {
                return Error::HttpResponseBodySize(Some(max as u64));
            }
            error
                .downcast::<wharf_egress::Error>()
                .map_or(Error::HttpResponseIncomplete, |error| self::reason(&error))
        };
        Limited::new(body, max).map_err(reason).boxed_unsync()
    }

    /// Returns the URL as the client will read it, if a request may go there.
    fn permitted(&self, method: &Method, uri: &http::Uri) -> Result<Url, Error> {
        // Judged as parsed by the client's own parser: another one could see another host.
        let url = Url::parse(&uri.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?;
        // A user in the URL would become an Authorization header.
        let anonymous = url.username().is_empty() && url.password().is_none();
        if *method == Method::CONNECT
            || !anonymous
            || !self.origins.contains(&url.origin().ascii_serialization())
        {
            return Err(Error::HttpRequestDenied);
        }
        self.guard
            .check_literal(&url)
            .map_err(|_| Error::DestinationIpProhibited)?;
        Ok(url)
    }

    /// Returns the credentials that are sent to the origin of a URL.
    fn granted_at(&self, url: &Url) -> impl Iterator<Item = (&String, &Credential)> {
        let origin = url.origin().ascii_serialization();
        self.credentials.iter().filter(move |(_, credential)| {
            // No origins named means all that are granted.
            credential.origins().is_empty() || credential.origins().contains(&origin)
        })
    }

    /// Returns the names of the credentials that a request to this URL gets.
    pub(super) fn credentials_at(&self, url: &str) -> Vec<String> {
        let url = Url::parse(url).ok();
        url.iter()
            .flat_map(|url| self.granted_at(url))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Returns every value that must not be shown: the secrets of all credentials, and what they are in a header.
    pub(super) fn secrets(&self, token: Option<&AccessToken>) -> Vec<SecretString> {
        let dir = self.secrets_dir.as_deref();
        let mut values: Vec<SecretString> = Vec::new();
        for credential in self.credentials.values() {
            let secrets = credential.secrets().into_iter();
            values.extend(secrets.filter_map(|secret| secret.read(dir, token).ok()));
            if let Ok((_, value)) = header(credential, dir, token)
                && let Ok(value) = value.to_str()
            {
                let encoded = value.rsplit(' ').next().unwrap_or_default();
                values.push(encoded.into());
            }
        }
        // The longest first: one may be a part of another.
        values.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
        values
    }

    fn add_credentials(
        &self,
        url: &Url,
        headers: &mut HeaderMap,
        token: Option<&AccessToken>,
    ) -> Result<(), Error> {
        for (name, credential) in self.granted_at(url) {
            let dir = self.secrets_dir.as_deref();
            let (header, value) = header(credential, dir, token).map_err(|why| {
                tracing::warn!(credential = name, why, "a credential could not be added");
                Error::ConfigurationError
            })?;
            // `insert` replaces: the guest's own header of this name must not survive.
            headers.insert(header, value);
        }
        Ok(())
    }

    fn client(&self) -> Result<&wharf_egress::GuardedClient, Error> {
        let made = self.client.get_or_init(|| {
            wharf_egress::plugin_client(self.guard.clone(), self.resolver.clone())
                .map_err(|error| error.to_string())
        });
        made.as_ref()
            .map_err(|why| Error::InternalError(Some(why.clone())))
    }
}

fn header(
    credential: &Credential,
    dir: Option<&Path>,
    token: Option<&AccessToken>,
) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = match credential {
        Credential::Basic { user, password, .. } => {
            let pair = format!(
                "{}:{}",
                user.read(dir, token)?.expose_secret(),
                password.read(dir, token)?.expose_secret()
            );
            (
                AUTHORIZATION,
                format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair)),
            )
        }
        Credential::Bearer { token: secret, .. } => (
            AUTHORIZATION,
            format!("Bearer {}", secret.read(dir, token)?.expose_secret()),
        ),
        Credential::Header { name, value, .. } => {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| "its header's name is not valid")?;
            (name, value.read(dir, token)?.expose_secret().to_owned())
        }
    };
    let mut value =
        HeaderValue::from_str(&value).map_err(|_| "its value cannot stand in a header")?;
    // Keeps it out of debug output and of HTTP/2's compression tables.
    value.set_sensitive(true);
    Ok((name, value))
}

/// Returns the error that tells the guest why an exchange failed.
fn reason(error: &wharf_egress::Error) -> Error {
    // The client wraps the cause several times over.
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = source {
        if cause.is::<Forbidden>() {
            return Error::DestinationIpProhibited;
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return Error::ConnectionRefused,
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                    return Error::ConnectionTerminated;
                }
                io::ErrorKind::TimedOut => return Error::ConnectionTimeout,
                _ => {}
            }
        }
        // Told apart, so that authors see a certificate's fault at once.
        if cause.is::<rustls::Error>() {
            return Error::TlsCertificateError;
        }
        source = cause.source();
    }
    if matches!(error, wharf_egress::Error::TimedOut) {
        Error::HttpResponseTimeout
    } else if error.is_connect() {
        Error::DestinationUnavailable
    } else {
        Error::HttpProtocolError
    }
}
