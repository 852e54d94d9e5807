//! Live exchanges of one call, kept for its author. No credential is in them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use secrecy::ExposeSecret;
use serde::Serialize;
use wasmtime_wasi_http::{Error, WasiBody};
use wharf_domain::AccessToken;

use super::network::Network;
use crate::contract::text::for_people;

/// Stands in the place of a secret.
const HIDDEN: &str = "[hidden]";
/// Shorter values are found everywhere, and hiding them would hide everything.
const MIN_SECRET: usize = 4;

/// One exchange of a plugin with its marketplace, as the plugin saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedExchange {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The plugin's own headers.
    pub headers: Vec<(String, String)>,
    /// Credentials that the host added, by their names in the manifest.
    pub credentials: Vec<String>,
    /// The request's body, as text.
    pub body: String,
    /// The answer, or the reason why there is none.
    pub answer: Result<RecordedAnswer, String>,
    /// Milliseconds from the request to the end of the answer.
    pub took_ms: u64,
}

/// The answer in an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedAnswer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body, as text.
    pub body: String,
}

/// A network that keeps what passes through it.
pub(crate) struct Recording {
    network: Arc<Network>,
    exchanges: Mutex<Vec<RecordedExchange>>,
}

impl Recording {
    pub(crate) fn new(network: Arc<Network>) -> Self {
        Self {
            network,
            exchanges: Mutex::default(),
        }
    }

    /// Returns what was exchanged so far.
    pub(crate) fn exchanges(&self) -> Vec<RecordedExchange> {
        let exchanges = self.exchanges.lock();
        exchanges.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a text without the secrets that may be in it: marketplaces repeat what they are told.
    pub(crate) fn hide(&self, text: &str, access_token: Option<&AccessToken>) -> String {
        let secrets = self.network.secrets(access_token);
        let secrets = secrets.iter().map(ExposeSecret::expose_secret);
        secrets
            .filter(|secret| secret.len() >= MIN_SECRET)
            .fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
    }

    /// Sends a request, waits for the whole answer and keeps both.
    pub(super) async fn send(
        &self,
        request: Request<WasiBody>,
        first_byte: Option<Duration>,
        access_token: Option<AccessToken>,
    ) -> Result<Response<WasiBody>, Error> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let body = self.network.collect(body).await?;
        let hide = |text: &str| self.hide(text, access_token.as_ref());
        let mut exchange = RecordedExchange {
            method: parts.method.to_string(),
            url: hide(&parts.uri.to_string()),
            headers: texts(&parts.headers, hide),
            credentials: self.network.credentials_at(&parts.uri.to_string()),
            body: hide(&String::from_utf8_lossy(&body)),
            answer: Err(String::new()),
            took_ms: 0,
        };
        let request = Request::from_parts(parts, full(body));
        let sent = self
            .network
            .clone()
            .send(request, first_byte, access_token.clone());
        let answered = whole(sent.await).await;
        exchange.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        exchange.answer = match &answered {
            Ok((parts, body)) => Ok(RecordedAnswer {
                status: parts.status.as_u16(),
                headers: texts(&parts.headers, hide),
                body: hide(&String::from_utf8_lossy(body)),
            }),
            Err(error) => Err(for_people(&format!("{error:?}"))),
        };
        let mut exchanges = self
            .exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        exchanges.push(exchange);
        answered.map(|(parts, body)| Response::from_parts(parts, full(body)))
    }
}

async fn whole(
    sent: Result<Response<WasiBody>, Error>,
) -> Result<(http::response::Parts, bytes::Bytes), Error> {
    let (parts, body) = sent?.into_parts();
    Ok((parts, body.collect().await?.to_bytes()))
}

fn full(body: bytes::Bytes) -> WasiBody {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn texts(headers: &HeaderMap, hide: impl Fn(&str) -> String) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), hide(&value))
        })
        .collect()
}
