//! Refusals: every error of the API, its HTTP answer and its line in the log. No other file maps errors to HTTP.

mod answers;

use std::{error::Error, time::Duration};

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode as Status, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::{AppError, KeyRefusal, OperationError, Unready};

use self::answers::{
    Answer, INVALID, LOADING, app_answer, internal, plugin_answer, too_large, unavailable,
    unsupported,
};
use crate::limits::Limited;

/// One field that was refused.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Detail {
    /// The field's name, empty for the body as a whole.
    #[schema(example = "organizationId")]
    pub(crate) path: &'static str,
    /// The reason, for people.
    #[schema(example = "is required")]
    pub(crate) message: String,
}

/// Every reason for which a request is refused.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// Fields that are missing or wrong, all of them at once.
    Validation(Vec<Detail>),
    /// A body that is not a JSON object; the reason, for people.
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
    /// A body that is compressed.
    UnsupportedCoding,
    /// A request without a host, with two, or with what is none (RFC 9112, 3.2).
    BadHost,
    /// A request that names the host of somebody else.
    ForeignHost,
    /// A request of a web page that is not this host's.
    ForeignOrigin,
    /// An upload that is no form.
    NotMultipart,
    /// An uploaded component or its grants are larger than any that would be looked at.
    UploadTooLarge,
    /// A request without a key, or with something else in its place.
    NoKey,
    /// A key that lets nobody in.
    KeyRefused(KeyRefusal),
    /// A key without the scope that the route asks for.
    ScopeMissing(&'static str),
    /// An organization's key, and the request names another organization.
    OtherOrganization,
    /// There is no admin token, and so no admin API.
    AdminDisabled,
    /// An operation on a plugin failed.
    Plugin(OperationError),
    /// A webhook was sent to this API.
    WebhookLoop,
    /// Every place for connections has a request in work.
    TooManyConnections,
    /// The client asks more often, or for more at a time, than one client may.
    ClientLimited(Limited),
    /// The process cannot work just now.
    Unready(Unready),
    /// The process is about to stop and wants no new work.
    Stopping,
    /// The plugin that serves this name may still be being loaded.
    PluginsLoading,
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
    /// The error: a stable text for programs.
    #[schema(example = "Validation error")]
    error: &'static str,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// The wrong fields, all of them at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail>,
}

/// `error` of every request that does not show who sends it.
const UNAUTHORIZED: &str = "Unauthorized";

/// `Retry-After` of errors that pass by themselves.
const RETRY_SOON: Duration = Duration::from_secs(1);

impl ApiError {
    fn answer(&self) -> Answer {
        match self {
            Self::App(error) => app_answer(error),
            Self::Plugin(error) => plugin_answer(error),
            Self::Validation(_) => (Status::BAD_REQUEST, INVALID, None),
            Self::Malformed(why) => (Status::BAD_REQUEST, INVALID, Some(why)),
            Self::InvalidMarketplace => (Status::BAD_REQUEST, "Invalid marketplace", None),
            Self::ReceiptRequired => (Status::BAD_REQUEST, "receipt is required", None),
            Self::Unauthorized => (Status::UNAUTHORIZED, UNAUTHORIZED, None),
            Self::NoKey => (
                Status::UNAUTHORIZED,
                UNAUTHORIZED,
                Some("send a key: `Authorization: Bearer wharf_...`"),
            ),
            Self::KeyRefused(why) => (
                Status::UNAUTHORIZED,
                UNAUTHORIZED,
                Some(match why {
                    KeyRefusal::Malformed => "the key is not whole or has a typing error",
                    KeyRefusal::Revoked => "the key was revoked",
                    KeyRefusal::Expired => "the key has expired",
                    KeyRefusal::Unknown | KeyRefusal::Failed(_) => "there is no such key",
                }),
            ),
            Self::ScopeMissing(_) => (
                Status::FORBIDDEN,
                "Forbidden",
                Some("the key lacks the scope"),
            ),
            Self::OtherOrganization => (
                Status::FORBIDDEN,
                "Forbidden",
                Some("the key is another organization's; organizationId may be left out"),
            ),
            Self::AdminDisabled => (
                Status::NOT_FOUND,
                "Admin API disabled",
                Some("WHARF_ADMIN_TOKEN is not set, and the request has no operator's key"),
            ),
            Self::NotFound => (Status::NOT_FOUND, "Not found", None),
            Self::MethodNotAllowed => (Status::METHOD_NOT_ALLOWED, "Method not allowed", None),
            Self::RequestTimedOut => (Status::REQUEST_TIMEOUT, "Request timeout", None),
            Self::BodyTooLarge => too_large("at most 1 MiB"),
            Self::UploadTooLarge => too_large("at most 32 MiB"),
            Self::UnsupportedMediaType => unsupported("use application/json"),
            Self::UnsupportedCoding => unsupported("send the body without a content coding"),
            Self::BadHost => (
                Status::BAD_REQUEST,
                "Bad request",
                Some("a request names its host once"),
            ),
            // RFC 9110, 15.5.20: a target for which this server was not configured. Not 403, which would say that it was
            // understood and that other credentials might do.
            Self::ForeignHost => (
                Status::MISDIRECTED_REQUEST,
                "Misdirected request",
                Some(
                    "this host does not go by that name; ALLOWED_HOSTS lists those that it goes by",
                ),
            ),
            Self::ForeignOrigin => (
                Status::FORBIDDEN,
                "Origin refused",
                Some("web pages of other origins change nothing here"),
            ),
            Self::NotMultipart => unsupported("use multipart/form-data"),
            Self::RateLimited(_) => (Status::TOO_MANY_REQUESTS, "rate_limited", None),
            Self::CredentialsNotConfigured => internal("Marketplace credentials not configured"),
            // Never the message of the panic: it may hold what the handler worked on.
            Self::Panicked(_) => internal("Internal error"),
            Self::MarketplaceUnavailable => {
                (Status::SERVICE_UNAVAILABLE, "marketplace_unavailable", None)
            }
            Self::AnswerTimedOut => unavailable("it took too long"),
            Self::WebhookLoop => (
                Status::FORBIDDEN,
                "Webhook refused",
                Some("webhooks must not be sent to this API: they would make more of them"),
            ),
            Self::ClientLimited(why) => (
                Status::TOO_MANY_REQUESTS,
                "Too many requests",
                Some(match why {
                    Limited::Rate(_) => "this client asks too often",
                    Limited::Concurrency => "this client has too many requests in work",
                }),
            ),
            Self::TooManyConnections => unavailable("too many connections"),
            Self::Unready(Unready::Unanswered) => unavailable("the database does not answer"),
            Self::Unready(Unready::Failed(_)) => {
                unavailable("the database cannot be read and written")
            }
            Self::PluginsLoading | Self::Unready(Unready::Loading) => unavailable(LOADING),
            Self::Stopping => unavailable("stopping"),
        }
    }

    /// The details of the refusal.
    fn details(self) -> Vec<Detail> {
        match self {
            Self::Validation(details) => details,
            Self::App(AppError::TargetForbidden(message)) => vec![Detail {
                path: "targetUrl",
                message,
            }],
            Self::App(AppError::UnknownMarketplace) => vec![Detail {
                path: "marketplace",
                message: "no plugin serves it".into(),
            }],
            Self::Plugin(OperationError::Quarantined(reason)) => vec![Detail {
                path: "reason",
                message: reason,
            }],
            Self::App(AppError::ScopesForbidden(message)) => vec![Detail {
                path: "scopes",
                message,
            }],
            Self::ScopeMissing(scope) => vec![Detail {
                path: "scope",
                message: scope.into(),
            }],
            // The engine's own words. Only the admin API has such errors, and its clients are operators.
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
                // Rounded up: a client that comes a little early would be refused once more.
                HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64),
            )
        };
        match self {
            Self::Unauthorized => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"mock\", charset=\"UTF-8\""),
            )),
            // RFC 6750, 3: without an error where no key came.
            Self::NoKey => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"wharf\""),
            )),
            Self::KeyRefused(_) => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"wharf\", error=\"invalid_token\""),
            )),
            Self::RateLimited(wait)
            | Self::App(AppError::TooOften { wait })
            | Self::ClientLimited(Limited::Rate(wait)) => Some(retry_after(*wait)),
            Self::MarketplaceUnavailable
            | Self::AnswerTimedOut
            | Self::TooManyConnections
            | Self::ClientLimited(Limited::Concurrency)
            | Self::Unready(_)
            | Self::PluginsLoading
            | Self::Stopping
            | Self::App(
                AppError::Unavailable(_)
                | AppError::PluginsLoading
                | AppError::RequestInWork
                | AppError::StoreBeingRemoved,
            )
            | Self::Plugin(OperationError::State(_)) => Some(retry_after(RETRY_SOON)),
            // What is left of the body is not read: the connection cannot carry another request.
            Self::RequestTimedOut => Some((header::CONNECTION, HeaderValue::from_static("close"))),
            // RFC 9110, 15.5.16: it tells that the coding was the reason, and not the type.
            Self::UnsupportedCoding => Some((
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            )),
            _ => None,
        }
    }

    /// Logs defects as errors and passing failures as warnings. Clients' mistakes have only the request's own line.
    fn log(&self) {
        match self {
            Self::App(error @ AppError::Internal(source)) => {
                tracing::error!(cause = chain(source.as_ref()), "{error}");
            }
            Self::App(error @ AppError::Unavailable(source)) => {
                tracing::warn!(cause = chain(source.as_ref()), "{error}");
            }
            Self::Unready(why) => tracing::warn!(cause = chain(why), "not ready"),
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
        // Status and header before the details, which consume the error.
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
mod tests;
