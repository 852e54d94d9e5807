//! Sending one delivery: sign, post, read the answer, judge it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use secrecy::{ExposeSecret, SecretString};
use wharf_domain::{AddressPolicy, SendOutcome, TargetUrl, Time, seed_signature};
use wharf_store::{
    EncryptionKey,
    deliveries::{Attempt, Claimed},
};

use crate::{
    AppError, CallbackSettings,
    egress::{GuardedResolver, check_literal},
    failpoint,
};

/// An answer's body is read up to here; a receiver that says more is not listened to.
const READ_MOST: usize = 64 * 1024;
/// Of it, this much is kept for the attempts log.
const KEEP_MOST: usize = 16 * 1024;

/// The HTTP client for webhooks: pooled, no redirects (they would carry the body past the address rule), no proxy
/// from the environment.
pub(crate) struct Sender {
    client: Client,
    addresses: Arc<AddressPolicy>,
    webhook_secret: Option<SecretString>,
    timeout: Duration,
}

impl Sender {
    pub(crate) fn new(settings: &CallbackSettings) -> Result<Self, AppError> {
        let addresses = Arc::new(settings.addresses.clone());
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(GuardedResolver(Arc::clone(&addresses))))
            .pool_max_idle_per_host(settings.per_endpoint)
            .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(AppError::internal)?;
        Ok(Self { client, addresses, webhook_secret: settings.webhook_secret.clone(), timeout: settings.timeout })
    }

    /// Sends a delivery once. Never fails: whatever happens is an attempt with an outcome.
    pub(crate) async fn send(&self, claimed: &Claimed, key: &EncryptionKey, now: Time) -> (SendOutcome, Attempt) {
        let began = Instant::now();
        let deadline = began + self.timeout;
        let sent = match tokio::time::timeout_at(deadline.into(), self.post(claimed, key, now)).await {
            Ok(Ok(response)) => judge(response, now, deadline).await,
            Ok(Err(unsent)) => unsent,
            Err(_) => Sent::failed(format!("no answer within {:?}", self.timeout)),
        };
        let attempt = Attempt {
            started_at: now,
            latency: began.elapsed(),
            http_status: sent.status.map(|status| status.as_u16()),
            error: sent.error,
            response: sent.response,
        };
        (sent.outcome, attempt)
    }

    async fn post(&self, claimed: &Claimed, key: &EncryptionKey, now: Time) -> Result<Response, Sent> {
        if !claimed.endpoint_is_active {
            return Err(Sent::hopeless("the endpoint is disabled".into()));
        }
        // Parsed again: a row may have been put in by hand.
        let url = TargetUrl::parse(&claimed.target_url)
            .map_err(|why| Sent::hopeless(format!("the endpoint's URL {why}")))?
            .url()
            .clone();
        check_literal(&url, &self.addresses).map_err(|forbidden| Sent::hopeless(forbidden.to_string()))?;
        let headers = self.headers(claimed, key, now).map_err(Sent::hopeless)?;
        failpoint::pass("send.before");
        let request = self.client.post(url).headers(headers).body(claimed.body.clone());
        request.send().await.map_err(|error| Sent::failed(causes(&error)))
    }

    fn headers(&self, claimed: &Claimed, key: &EncryptionKey, now: Time) -> Result<HeaderMap, String> {
        let secrets = claimed.secrets(key).map_err(|error| error.to_string())?;
        let id = claimed.event_id.to_string();
        let mut headers = HeaderMap::new();
        let mut set = |name: &str, value: &str| {
            let header = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            let (name, value) = header.ok_or_else(|| format!("header {name} cannot be sent"))?;
            headers.insert(name, value);
            Ok::<(), String>(())
        };
        // The shaper's own first, so that it cannot replace ours.
        for (name, value) in &claimed.headers {
            set(name, value)?;
        }
        set(CONTENT_TYPE.as_str(), &claimed.content_type)?;
        set("x-event-id", &id)?;
        set("webhook-id", &id)?;
        set("webhook-timestamp", &now.as_seconds().to_string())?;
        set("webhook-signature", &secrets.signature(claimed.event_id, now, &claimed.body))?;
        if let Some(secret) = &self.webhook_secret {
            set("x-webhook-signature", &seed_signature(secret.expose_secret().as_bytes(), &claimed.body))?;
        }
        Ok(headers)
    }
}

struct Sent {
    outcome: SendOutcome,
    status: Option<StatusCode>,
    error: Option<String>,
    response: Option<String>,
}

impl Sent {
    fn failed(why: String) -> Self {
        Self { outcome: SendOutcome::Failed { retry_after: None }, status: None, error: Some(why), response: None }
    }

    fn hopeless(why: String) -> Self {
        Self { outcome: SendOutcome::Hopeless, ..Self::failed(why) }
    }
}

/// The status line has decided: a body that breaks off or never ends changes nothing any more.
async fn judge(response: Response, now: Time, deadline: Instant) -> Sent {
    failpoint::pass("response.before");
    let status = response.status();
    let retry_after = retry_after(response.headers(), now);
    let outcome = match status {
        status if status.is_success() => SendOutcome::Accepted,
        StatusCode::GONE => SendOutcome::Gone,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => SendOutcome::Failed { retry_after },
        _ => SendOutcome::Failed { retry_after: None },
    };
    let error = (outcome != SendOutcome::Accepted).then(|| format!("the receiver answered {status}"));
    let sent = Sent { outcome, status: Some(status), error, response: first_bytes(response, deadline).await };
    failpoint::pass("response.after");
    sent
}

async fn first_bytes(mut response: Response, deadline: Instant) -> Option<String> {
    let mut kept = Vec::new();
    let mut read = 0;
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(deadline.into(), response.chunk()).await {
        read += chunk.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(KEEP_MOST - kept.len())]);
        if read >= READ_MOST {
            break;
        }
    }
    (!kept.is_empty()).then(|| String::from_utf8_lossy(&kept).into_owned())
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110); anything else counts as absent.
fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    Some(Time::from_micros(date.timestamp().as_microsecond()).since(now))
}

/// An error with its causes: the outermost alone says only that sending failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_reads_seconds_and_dates_and_drops_nonsense() {
        let now = Time::parse("2026-01-01T00:00:00Z").expect("a time");
        for (value, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Thu, 01 Jan 2026 00:01:00 GMT", Some(60)),
            ("Wed, 31 Dec 2025 00:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
