use std::net::{IpAddr, SocketAddr};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::post,
};
use clap::Args;
use serde_json::{Value, json};
use wharf_domain::{Clock, SystemClock};

use super::serve::{announce, listen};
use crate::{logging::Style, output, shutdown};

/// `wharf mock-webhook`.
#[derive(Args)]
#[command(after_help = "\
It answers 200 to every POST on every path; 500 where the header `x-fail: true` is set or the payload's `receipt` or
`data.receipt` ends in 5, so that retries can be watched.

Examples:
  wharf mock-webhook --port 4000
  curl -X POST http://127.0.0.1:4000/webhook -H 'x-fail: true' -d '{}'")]
pub(crate) struct MockWebhookArgs {
    /// The address to listen at
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port to listen at; 0 is any free one
    #[arg(long, default_value = "4000")]
    port: u16,
}

/// The most that a webhook may hold, in bytes.
const MOST: usize = 16 * 1024 * 1024;

/// Receives until a signal comes.
pub(crate) async fn run(args: MockWebhookArgs, style: Style) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let listener = listen(SocketAddr::new(args.host, args.port)).await?;
    announce(&listener, style, "the webhook receiver")?;
    let router = Router::new()
        .fallback(post(receive).fallback(other_method))
        .layer(DefaultBodyLimit::max(MOST))
        .with_state(style);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn other_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({"error": "Method not allowed"}))).into_response()
}

async fn receive(State(style): State<Style>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
    let status = if is_to_fail(&headers, &body) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    show(style, &uri, &headers, &body, status);
    let answer = if status.is_success() { json!({"received": true}) } else { json!({"error": "failed as asked"}) };
    (status, Json(answer)).into_response()
}

fn is_to_fail(headers: &HeaderMap, body: &Value) -> bool {
    let asked = headers.get("x-fail").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let ends_in_five = |receipt: &Value| match receipt {
        Value::String(text) => text.ends_with('5'),
        Value::Number(number) => number.to_string().ends_with('5'),
        _ => false,
    };
    asked || ends_in_five(&body["receipt"]) || ends_in_five(&body["data"]["receipt"])
}

/// What was received is this command's result: on stdout, for programs in the shape of a log line.
fn show(style: Style, uri: &Uri, headers: &HeaderMap, body: &Value, status: StatusCode) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let event_id = header("x-event-id").or(header("webhook-id"));
    match style {
        Style::People => output::line(&format!(
            "webhook_received {} {} event {}\n{body:#}",
            status.as_u16(),
            uri.path(),
            event_id.unwrap_or("without an id"),
        )),
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
    fn fails_when_asked_and_for_receipts_that_end_in_five() {
        let fails = |body: Value| is_to_fail(&HeaderMap::new(), &body);
        for body in [json!({"receipt": "RL15"}), json!({"data": {"receipt": "5"}}), json!({"receipt": 105})] {
            assert!(fails(body));
        }
        for body in [json!({}), json!("5"), json!({"receipt": "51"}), json!({"data": {"receipt": ["5"]}})] {
            assert!(!fails(body));
        }
        let asked =
            |value| HeaderMap::from_iter([("x-fail".parse().expect("a name"), HeaderValue::from_static(value))]);
        assert!(is_to_fail(&asked("true"), &Value::Null));
        assert!(!is_to_fail(&asked("false"), &Value::Null));
    }
}
