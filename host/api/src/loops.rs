//! Loops: what comes with a webhook's signature is a webhook, and must not make more of them.

use axum::http::{HeaderMap, HeaderName};

use crate::error::ApiError;

/// Our sender always sets the first, and the second where `WEBHOOK_SECRET` is set. No client of an API signs so.
const SIGNATURES: [HeaderName; 2] = [
    HeaderName::from_static("webhook-signature"),
    HeaderName::from_static("x-webhook-signature"),
];

/// Refuses webhooks.
pub(crate) fn refuse_webhooks(headers: &HeaderMap) -> Result<(), ApiError> {
    if SIGNATURES.iter().any(|name| headers.contains_key(name)) {
        Err(ApiError::WebhookLoop)
    } else {
        Ok(())
    }
}
