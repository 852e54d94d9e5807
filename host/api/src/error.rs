use std::{error::Error, time::Duration};

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::{AppError, OperationError, RevisionState};

/// One field that was refused.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Detail {
    /// The field's name, empty for the body as a whole.
    #[schema(example = "organizationId")]
    pub(crate) path: &'static str,
    /// Why, for people.
    #[schema(example = "is required")]
    pub(crate) message: String,
}

/// Every way in which a request is refused. The only place that knows how a refusal looks in HTTP, and that logs it.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// Fields that are missing or wrong, all of them at once.
    Validation(Vec<Detail>),
    /// A body that is no JSON object; why, for people.
    Malformed(&'static str),
    /// No adapter serves this marketplace.
    InvalidMarketplace,
    /// The operator set no user and password for this mock marketplace.
    CredentialsNotConfigured,
    /// Basic credentials that are missing or wrong.
    Unauthorized,
    /// The mock route without a receipt.
    ReceiptRequired,
    /// The mock marketplace was asked too often; ask again after this long.
    RateLimited(Duration),
    /// The mock marketplace's adapter could not be asked.
    MarketplaceUnavailable,
    /// No such route.
    NotFound,
    /// The route has no such method.
    MethodNotAllowed,
    /// The client took too long to send its body.
    RequestTimedOut,
    /// We took too long to answer.
    AnswerTimedOut,
    /// A body of more than 1 MiB.
    BodyTooLarge,
    /// A body that is not JSON by its content type.
    UnsupportedMediaType,
    /// An upload that is no form.
    NotMultipart,
    /// An uploaded component or its grants are larger than any that would be looked at.
    UploadTooLarge,
    /// The admin API without its token.
    AdminUnauthorized,
    /// There is no admin token, and so no admin API.
    AdminDisabled,
    /// What an operator wanted of a plugin was not done.
    Plugin(OperationError),
    /// A handler panicked; with its message, for the log.
    Panicked(String),
    /// An operation failed.
    App(AppError),
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        Self::App(error)
    }
}

impl From<OperationError> for ApiError {
    fn from(error: OperationError) -> Self {
        Self::Plugin(error)
    }
}

/// The shape of every refusal.
#[derive(Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// What is wrong: a stable text that programs may go by.
    #[schema(example = "Validation error")]
    error: &'static str,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// What is wrong in particular: every field at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail>,
}

/// How soon a client may repeat a request that met a passing trouble of ours.
const RETRY_SOON: Duration = Duration::from_secs(1);

impl ApiError {
    /// Status, `error` and `message`.
    fn answer(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        match self {
            Self::Validation(_) => (StatusCode::BAD_REQUEST, "Validation error", None),
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, "Validation error", Some(why)),
            Self::InvalidMarketplace => (StatusCode::BAD_REQUEST, "Invalid marketplace", None),
            Self::CredentialsNotConfigured => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Marketplace credentials not configured",
                None,
            ),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized", None),
            Self::ReceiptRequired => (StatusCode::BAD_REQUEST, "receipt is required", None),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", None),
            Self::MarketplaceUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "marketplace_unavailable",
                None,
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not found", None),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", None),
            Self::RequestTimedOut => (StatusCode::REQUEST_TIMEOUT, "Request timeout", None),
            Self::AnswerTimedOut => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Service unavailable",
                Some("it took too long"),
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "Payload too large",
                Some("at most 1 MiB"),
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
                Some("use application/json"),
            ),
            Self::NotMultipart => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
                Some("use multipart/form-data"),
            ),
            Self::UploadTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "Payload too large",
                Some("at most 32 MiB"),
            ),
            Self::AdminUnauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized", None),
            Self::AdminDisabled => (
                StatusCode::NOT_FOUND,
                "Admin API disabled",
                Some("WHARF_ADMIN_TOKEN is not set"),
            ),
            Self::Plugin(OperationError::NoSuchPlugin) => {
                (StatusCode::NOT_FOUND, "Plugin not found", None)
            }
            Self::Plugin(OperationError::NoSuchRevision) => (
                StatusCode::NOT_FOUND,
                "Revision not found",
                Some("it was never kept, or there is none to go back to"),
            ),
            Self::Plugin(OperationError::Quarantined(_)) => (
                StatusCode::CONFLICT,
                "Revision is quarantined",
                Some("release it first"),
            ),
            Self::Plugin(OperationError::Refused(refusal))
                if refusal.state() == RevisionState::NeedsApproval =>
            {
                (
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "Plugin needs approval",
                    Some("it asks for more than it was granted; what served before goes on"),
                )
            }
            Self::Plugin(OperationError::Refused(_)) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "Plugin refused",
                Some("what served before goes on"),
            ),
            Self::Plugin(OperationError::State(_)) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Service unavailable",
                Some("the plugins' state cannot be written"),
            ),
            Self::App(AppError::EndpointNotFound) => {
                (StatusCode::NOT_FOUND, "Webhook not found", None)
            }
            Self::App(AppError::DeliveryNotFound) => {
                (StatusCode::NOT_FOUND, "Delivery not found", None)
            }
            Self::App(AppError::EndpointTaken) => (
                StatusCode::CONFLICT,
                "Webhook exists",
                Some("another one has this event and targetUrl"),
            ),
            Self::App(AppError::EndpointDisabled) => (
                StatusCode::CONFLICT,
                "Webhook is disabled",
                Some("enable it first"),
            ),
            Self::App(AppError::NothingToSend) => (
                StatusCode::CONFLICT,
                "Nothing to send",
                Some("the shaper refused the event"),
            ),
            Self::App(AppError::TargetForbidden(_)) => {
                (StatusCode::BAD_REQUEST, "Validation error", None)
            }
            Self::App(AppError::StoreNotFound) => (StatusCode::NOT_FOUND, "Store not found", None),
            Self::App(AppError::Unavailable(_)) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Service unavailable",
                Some("it is safe to repeat the request"),
            ),
            Self::Panicked(_) | Self::App(AppError::Internal(_)) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "Internal error", None)
            }
        }
    }

    /// What is wrong in particular.
    fn details(self) -> Vec<Detail> {
        match self {
            Self::Validation(details) => details,
            Self::App(AppError::TargetForbidden(message)) => vec![Detail {
                path: "targetUrl",
                message,
            }],
            Self::Plugin(OperationError::Quarantined(reason)) => vec![Detail {
                path: "reason",
                message: reason,
            }],
            Self::Plugin(OperationError::Refused(refusal)) => {
                let stage = refusal.stage.to_string();
                let told = [
                    ("stage", stage),
                    ("cause", refusal.cause),
                    ("offer", refusal.offer),
                    ("fix", refusal.fix),
                ];
                let said = told.into_iter().filter(|(_, message)| !message.is_empty());
                said.map(|(path, message)| Detail { path, message })
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// The header that some refusals carry.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let retry_after = |wait: Duration| {
            (
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs().max(1)),
            )
        };
        match self {
            Self::Unauthorized => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"mock\", charset=\"UTF-8\""),
            )),
            Self::AdminUnauthorized => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"admin\""),
            )),
            Self::RateLimited(wait) => Some(retry_after(*wait)),
            Self::MarketplaceUnavailable
            | Self::AnswerTimedOut
            | Self::App(AppError::Unavailable(_))
            | Self::Plugin(OperationError::State(_)) => Some(retry_after(RETRY_SOON)),
            // What is left of the body is not read: the connection cannot carry another request.
            Self::RequestTimedOut => Some((header::CONNECTION, HeaderValue::from_static("close"))),
            _ => None,
        }
    }

    /// Passing troubles are warnings, defects are errors; a client's own mistakes are in the request's line alone.
    fn log(&self) {
        match self {
            Self::App(error @ AppError::Internal(source)) => {
                tracing::error!(cause = chain(source.as_ref()), "{error}");
            }
            Self::App(error @ AppError::Unavailable(source)) => {
                tracing::warn!(cause = chain(source.as_ref()), "{error}");
            }
            Self::Panicked(message) => tracing::error!(message, "a handler panicked"),
            Self::Plugin(OperationError::State(error)) => {
                tracing::error!(%error, "the plugins' state cannot be written");
            }
            Self::AnswerTimedOut => tracing::error!("the answer took too long"),
            Self::CredentialsNotConfigured => {
                tracing::warn!("no credentials are set for this mock marketplace")
            }
            _ => {}
        }
    }
}

/// An error and what caused it, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let (status, error, message) = self.answer();
        let header = self.header();
        let details = self.details();
        let mut response = (
            status,
            Json(Refusal {
                error,
                message,
                details,
            }),
        )
            .into_response();
        response.headers_mut().extend(header);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn causes_are_logged_but_never_answered() {
        let cause = Arc::new(std::io::Error::other("relation \"stores\" does not exist"));
        let error = ApiError::from(AppError::Internal(cause));
        assert_eq!(
            error.answer(),
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal error", None)
        );
        let ApiError::App(AppError::Internal(cause)) = &error else {
            panic!("another error")
        };
        assert_eq!(chain(cause.as_ref()), "relation \"stores\" does not exist");
    }

    #[test]
    fn a_passing_trouble_tells_when_to_come_back() {
        for error in [
            ApiError::from(AppError::Unavailable(Arc::new(std::io::Error::other(
                "down",
            )))),
            ApiError::MarketplaceUnavailable,
            ApiError::AnswerTimedOut,
            ApiError::RateLimited(Duration::from_millis(300)),
        ] {
            assert_eq!(
                error.header(),
                Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
                "{error:?}"
            );
        }
        let limited = ApiError::RateLimited(Duration::from_secs(60));
        assert_eq!(
            limited.header(),
            Some((header::RETRY_AFTER, HeaderValue::from_static("60")))
        );
    }
}
