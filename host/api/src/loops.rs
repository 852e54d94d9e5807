//! Loops: what comes with a webhook's signature is a webhook, and must not make more of them.

use axum::{
    extract::Request,
    http::HeaderName,
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::error::ApiError;

/// Our sender always sets the first, and the second where `WEBHOOK_SECRET` is set. No client of an API signs so.
const SIGNATURES: [HeaderName; 2] = [
    HeaderName::from_static("webhook-signature"),
    HeaderName::from_static("x-webhook-signature"),
];

/// Refuses webhooks before anything is done.
pub(crate) async fn refuse_webhooks(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if SIGNATURES.iter().any(|name| headers.contains_key(name)) {
        return ApiError::WebhookLoop.into_response();
    }
    next.run(request).await
}
