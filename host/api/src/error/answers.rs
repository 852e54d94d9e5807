//! The answers to errors of the operations, and what answers are made of.

use axum::http::StatusCode as Status;
use wharf_app::{AppError, OperationError, RevisionState};

/// Status, `error` and `message`.
pub(super) type Answer = (Status, &'static str, Option<&'static str>);

/// `error` of every request with wrong fields or an unreadable body.
pub(super) const INVALID: &str = "Validation error";

/// `message` where a plugin that is not there yet may come.
pub(super) const LOADING: &str = "plugins are still being loaded";

pub(super) fn too_large(limit: &'static str) -> Answer {
    (Status::PAYLOAD_TOO_LARGE, "Payload too large", Some(limit))
}

pub(super) fn unsupported(advice: &'static str) -> Answer {
    let error = "Unsupported media type";
    (Status::UNSUPPORTED_MEDIA_TYPE, error, Some(advice))
}

pub(super) fn internal(error: &'static str) -> Answer {
    (Status::INTERNAL_SERVER_ERROR, error, None)
}

pub(super) fn unavailable(why: &'static str) -> Answer {
    let error = "Service unavailable";
    (Status::SERVICE_UNAVAILABLE, error, Some(why))
}

pub(super) fn app_answer(error: &AppError) -> Answer {
    let not_found = |error| (Status::NOT_FOUND, error, None);
    let conflict = |error, advice| (Status::CONFLICT, error, Some(advice));
    match error {
        AppError::StoreNotFound => not_found("Store not found"),
        AppError::StoreHeld => conflict(
            "Store on hold",
            "its marketplace is asked nothing until it is resumed",
        ),
        AppError::StoreBeingRemoved => conflict(
            "Store is being removed",
            "register it again once its receipts are gone: it will be a new one",
        ),
        AppError::TooManyHolds => conflict("Too many holds", "resume something first"),
        AppError::EndpointNotFound => not_found("Webhook not found"),
        AppError::DeliveryNotFound => not_found("Delivery not found"),
        AppError::LogNotFound => not_found("Log not found"),
        AppError::EndpointTaken => {
            conflict("Webhook exists", "another one has this event and targetUrl")
        }
        AppError::SecretUnreadable => conflict("Secret is unreadable", "rotate it first"),
        AppError::TooManySecrets => conflict(
            "Too many secrets",
            "four old ones still sign: rotate with an overlap of 0, or once one of them ends",
        ),
        AppError::RequestInWork => conflict(
            "Request in progress",
            "one with this Idempotency-Key is being carried out",
        ),
        AppError::AnswerUnreadable => conflict(
            "Answer is unreadable",
            "the request was carried out; the host's key that its answer was stored with has left",
        ),
        AppError::KeyReused => (
            Status::UNPROCESSABLE_ENTITY,
            "Idempotency-Key reused",
            Some("it was given to another request"),
        ),
        AppError::KeyNotFound => not_found("Key not found"),
        AppError::TooManyKeys => conflict(
            "Too many keys",
            "an organization has at most 100, and so has the operator: revoke one first",
        ),
        AppError::TooManyEndpoints => conflict("Too many webhooks", "delete one first"),
        AppError::EndpointDisabled => conflict("Webhook is disabled", "enable it first"),
        AppError::NothingToSend => conflict("Nothing to send", "the shaper refused the event"),
        AppError::TooOften { .. } => (
            Status::TOO_MANY_REQUESTS,
            "Too many requests",
            Some("the organization asked for this too often"),
        ),
        // To a client it is one more wrong field, though the rule needs the operator's networks to be judged.
        AppError::TargetForbidden(_)
        | AppError::UnknownMarketplace
        | AppError::ScopesForbidden(_) => (Status::BAD_REQUEST, INVALID, None),
        AppError::PluginsLoading => unavailable(LOADING),
        // True of every operation: what may have been committed before the failure is found by the repeat.
        AppError::Unavailable(_) => unavailable("it is safe to repeat the request"),
        // The cause is for the log: it may name tables and files.
        AppError::Internal(_) => internal("Internal error"),
    }
}

pub(super) fn plugin_answer(error: &OperationError) -> Answer {
    let refused = |error, why| (Status::UNPROCESSABLE_ENTITY, error, Some(why));
    match error {
        OperationError::NoSuchPlugin => (Status::NOT_FOUND, "Plugin not found", None),
        OperationError::NoSuchRevision => (
            Status::NOT_FOUND,
            "Revision not found",
            Some("it was never kept, or there is none to go back to"),
        ),
        OperationError::Quarantined(_) => (
            Status::CONFLICT,
            "Revision is quarantined",
            Some("release it first"),
        ),
        OperationError::Refused(why) if why.state() == RevisionState::NeedsApproval => refused(
            "Plugin needs approval",
            "it asks for more than it was granted; what served before goes on",
        ),
        OperationError::Refused(_) => refused("Plugin refused", "what served before goes on"),
        OperationError::State(_) => unavailable("the plugins' state cannot be written"),
    }
}
