//! `wharf mock-webhook`: a receiver that shows webhooks and checks their signatures.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::post,
};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use wharf_api::ServerSettings;
use wharf_domain::{Clock, EndpointSecret, SystemClock, Time, seed_signature, standard_signature};

use super::serve::{announce, listen};
use crate::{
    logging::Style,
    output,
    secret::{self, Secret},
    settings::{Addresses, SettingError, host},
    shutdown,
};

/// `wharf mock-webhook`.
#[derive(Args)]
#[command(after_help = "\
It answers 200 to every POST on every path; 500 where the header `x-fail: true` is set or the payload's `receipt` or
`data.receipt` ends in 5, so that retries can be watched.

With secrets it checks signatures, prints the result and answers 401 if one is wrong.

Examples:
  wharf mock-webhook --port 4000
  SIGNING_SECRETS=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw wharf mock-webhook
  curl -X POST http://127.0.0.1:4000/webhook -H 'x-fail: true' -d '{}'

Secrets are set in the environment, or read from the file that <NAME>_FILE names:
  [env: SIGNING_SECRETS]
          Signing secrets of endpoints that send here, divided by commas; then one must match
  [env: WEBHOOK_SECRET]
          The host's; then the original service's signature must match")]
pub(crate) struct MockWebhookArgs {
    /// The address or name to listen at
    #[arg(long, default_value = "127.0.0.1", value_parser = host)]
    host: Addresses,
    /// The port to listen at; 0 is any free one
    #[arg(long, default_value = "4000")]
    port: u16,
    #[arg(skip = Secret::of_environment("SIGNING_SECRETS"))]
    signing_secrets: Secret,
    #[arg(skip = Secret::of_environment("WEBHOOK_SECRET"))]
    seed_secret: Secret,
}

impl MockWebhookArgs {
    /// Tells which secrets are none.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        let are_secrets = |text: &str| endpoint_secrets(text).map(drop);
        wrong.extend(self.signing_secrets.check(are_secrets).err());
        wrong.extend(self.seed_secret.check(secret::long_enough).err());
    }
}

/// Reads secrets that are divided by commas.
fn endpoint_secrets(text: &str) -> Result<Vec<EndpointSecret>, String> {
    let secrets = text.split(',').map(|one| EndpointSecret::parse(one.trim()));
    secrets
        .collect::<Result<_, _>>()
        .map_err(|why| why.to_string())
}

/// State that handlers share.
struct Mock {
    style: Style,
    secrets: Vec<EndpointSecret>,
    seed_secret: Option<SecretString>,
}

/// Limit of a webhook's body, in bytes.
// Far more than the 1 MiB that a shaper may put out by default: no delivery fails for its size here.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// As a host's own API is served.
const SERVER: ServerSettings = ServerSettings {
    request_timeout: Duration::from_secs(30),
    max_connections: 512,
};

/// Receives until a signal comes.
pub(crate) async fn run(args: MockWebhookArgs, style: Style) -> anyhow::Result<()> {
    let stop = shutdown::on_signal(Duration::ZERO)?.stop;
    let listener = listen(&args.host.with_port(args.port)).await?;
    announce(&listener, style, "the webhook receiver")?;
    let router = Router::new()
        .fallback(post(receive).fallback(other_method))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .with_state(Arc::new(Mock {
            style,
            // They were checked with the settings.
            secrets: args
                .signing_secrets
                .expose()
                .and_then(|text| endpoint_secrets(text).ok())
                .unwrap_or_default(),
            seed_secret: args.seed_secret.value().cloned(),
        }));
    wharf_api::serve(listener, router, SERVER, None, stop).await;
    Ok(())
}

async fn other_method() -> Response {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        Json(json!({"error": "Method not allowed"})),
    )
        .into_response()
}

async fn receive(
    State(mock): State<Arc<Mock>>,
    uri: Uri,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    // For showing alone: signatures are over the bytes as they came.
    let body =
        serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
    let verdict = mock.verdict(&headers, &bytes, SystemClock.now());
    let (status, answer) = match &verdict {
        Some(Err(why)) => (StatusCode::UNAUTHORIZED, json!({"error": why})),
        // After the signature: who tries retries wants to see first that it fits.
        _ if is_to_fail(&headers, &body) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            json!({"error": "failed as asked"}),
        ),
        _ => (StatusCode::OK, json!({"received": true})),
    };
    let verdict = verdict.map(|verdict| verdict.map_or_else(|why| why, |()| "valid"));
    show(mock.style, &uri, &headers, &body, status, verdict);
    (status, Json(answer)).into_response()
}

impl Mock {
    /// Checks the signatures for which secrets were given; `None` without any.
    fn verdict(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Time,
    ) -> Option<Result<(), &'static str>> {
        let standard =
            (!self.secrets.is_empty()).then(|| check_standard(&self.secrets, headers, body, now));
        let seed = self
            .seed_secret
            .as_ref()
            .map(|secret| check_seed(secret, headers, body));
        standard
            .map(|standard| standard.and(seed.unwrap_or(Ok(()))))
            .or(seed)
    }
}

/// As Standard Webhooks tells receivers to: the time is recent, and one of the signatures is by one of the secrets.
fn check_standard(
    secrets: &[EndpointSecret],
    headers: &HeaderMap,
    body: &[u8],
    now: Time,
) -> Result<(), &'static str> {
    // As the specification's own libraries have it: what was overheard is of no use later.
    const TOLERANCE: Duration = Duration::from_secs(5 * 60);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = header("webhook-id")
        .and_then(|id| id.parse().ok())
        .ok_or("webhook-id is missing or wrong")?;
    let seconds: Option<i64> = header("webhook-timestamp").and_then(|seconds| seconds.parse().ok());
    let sent_at = seconds
        .and_then(|seconds| seconds.checked_mul(1_000_000))
        .map(Time::from_micros);
    let sent_at = sent_at.ok_or("webhook-timestamp is missing or wrong")?;
    if now.since(sent_at).max(sent_at.since(now)) > TOLERANCE {
        return Err("webhook-timestamp is too far from now");
    }
    let given = header("webhook-signature").ok_or("webhook-signature is missing")?;
    let fits = |secret: &EndpointSecret| {
        let expected = standard_signature(secret, id, sent_at, body);
        // Several while a secret is being rotated. Not in constant time: a tool for trying things out.
        given.split(' ').any(|given| given == expected)
    };
    if secrets.iter().any(fits) {
        Ok(())
    } else {
        Err("webhook-signature is wrong")
    }
}

fn check_seed(secret: &SecretString, headers: &HeaderMap, body: &[u8]) -> Result<(), &'static str> {
    let given = headers
        .get("x-webhook-signature")
        .ok_or("x-webhook-signature is missing")?;
    let expected = seed_signature(secret.expose_secret().as_bytes(), body);
    if given.as_bytes() == expected.as_bytes() {
        Ok(())
    } else {
        Err("x-webhook-signature is wrong")
    }
}

fn is_to_fail(headers: &HeaderMap, body: &Value) -> bool {
    let asked = headers
        .get("x-fail")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let ends_in_five = |receipt: &Value| match receipt {
        Value::String(text) => text.ends_with('5'),
        Value::Number(number) => number.to_string().ends_with('5'),
        _ => false,
    };
    asked || ends_in_five(&body["receipt"]) || ends_in_five(&body["data"]["receipt"])
}

/// Prints a received webhook to stdout; for programs in the shape of a log line.
fn show(
    style: Style,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Value,
    status: StatusCode,
    verdict: Option<&'static str>,
) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let event_id = header("x-event-id").or(header("webhook-id"));
    match style {
        Style::People => output::line(&format!(
            "webhook_received {} {} event {}{}\n{body:#}",
            status.as_u16(),
            uri.path(),
            event_id.unwrap_or("without an id"),
            verdict
                .map(|verdict| format!(", signature: {verdict}"))
                .unwrap_or_default(),
        )),
        // On stdout, unlike the log: what is received is this command's result.
        Style::Programs => output::line(
            &json!({
                "timestamp": SystemClock.now().to_string(),
                "level": "INFO",
                "message": "webhook_received",
                "status": status.as_u16(),
                "path": uri.path(),
                "eventId": event_id,
                "signature": header("webhook-signature"),
                "seedSignature": header("x-webhook-signature"),
                "verified": verdict,
                "body": body,
            })
            .to_string(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn signatures_are_checked_where_secrets_are_given() {
        let secret = EndpointSecret::from_random([1; 32]);
        let now = Time::from_micros(1_790_000_000_000_000);
        let id = wharf_domain::EventId(wharf_domain::uuid_v4([1; 16]));
        let by = |secret: &EndpointSecret, body: &[u8], at: Time| {
            let signature = format!("v1,AAAA {}", standard_signature(secret, id, at, body));
            HeaderMap::from_iter([
                (
                    "webhook-id".parse().expect("a name"),
                    id.to_string().parse().expect("a value"),
                ),
                (
                    "webhook-timestamp".parse().expect("a name"),
                    at.as_seconds().into(),
                ),
                (
                    "webhook-signature".parse().expect("a name"),
                    signature.parse().expect("a value"),
                ),
                (
                    "x-webhook-signature".parse().expect("a name"),
                    seed_signature(b"s", body).parse().expect("a value"),
                ),
            ])
        };
        let mock = |secrets: &[&EndpointSecret], seed: Option<&str>| Mock {
            style: Style::Programs,
            secrets: secrets.iter().copied().cloned().collect(),
            seed_secret: seed.map(Into::into),
        };
        let old = EndpointSecret::from_random([2; 32]);
        let good = by(&secret, b"{}", now);
        assert_eq!(mock(&[], None).verdict(&good, b"{}", now), None);
        assert_eq!(
            mock(&[&old, &secret], Some("s")).verdict(&good, b"{}", now),
            Some(Ok(()))
        );
        let late = now + Duration::from_secs(301);
        let both = mock(&[&secret], Some("other"));
        assert_eq!(
            both.verdict(&good, b"{}", now),
            Some(Err("x-webhook-signature is wrong"))
        );
        let one = mock(&[&secret], None);
        for (headers, body, at, why) in [
            (&good, &b"{ }"[..], now, "webhook-signature is wrong"),
            (
                &by(&old, b"{}", now),
                b"{}",
                now,
                "webhook-signature is wrong",
            ),
            (&good, b"{}", late, "webhook-timestamp is too far from now"),
            (
                &HeaderMap::new(),
                b"{}",
                now,
                "webhook-id is missing or wrong",
            ),
        ] {
            assert_eq!(one.verdict(headers, body, at), Some(Err(why)));
        }
    }

    #[test]
    fn fails_when_asked_and_for_receipts_that_end_in_five() {
        let fails = |body: Value| is_to_fail(&HeaderMap::new(), &body);
        for body in [
            json!({"receipt": "RL15"}),
            json!({"data": {"receipt": "5"}}),
            json!({"receipt": 105}),
        ] {
            assert!(fails(body));
        }
        for body in [
            json!({}),
            json!("5"),
            json!({"receipt": "51"}),
            json!({"data": {"receipt": ["5"]}}),
        ] {
            assert!(!fails(body));
        }
        let asked = |value| {
            HeaderMap::from_iter([(
                "x-fail".parse().expect("a name"),
                HeaderValue::from_static(value),
            )])
        };
        assert!(is_to_fail(&asked("true"), &Value::Null));
        assert!(!is_to_fail(&asked("false"), &Value::Null));
    }
}
