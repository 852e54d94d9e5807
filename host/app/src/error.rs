use std::{sync::Arc, time::Duration};

use wharf_store::StoreError;

/// The error below, kept for the log. Shared, because one failed commit may answer many imports.
type Source = Arc<dyn std::error::Error + Send + Sync>;

/// The reason why an operation could not be done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppError {
    /// No store has this sync token.
    #[error("Store not found")]
    StoreNotFound,
    /// The store, its organization or its marketplace is held, and nothing is known of the receipt yet.
    #[error("Store on hold")]
    StoreHeld,
    /// The store with this organization, marketplace and external id is being removed.
    #[error("Store is being removed")]
    StoreBeingRemoved,
    /// There are as many holds as there may be.
    #[error("there are as many holds as there may be")]
    TooManyHolds,
    /// No plugin serves this marketplace, nor ever did.
    #[error("no plugin serves this marketplace")]
    UnknownMarketplace,
    /// The plugin that serves this marketplace may still be being loaded.
    #[error("plugins are still being loaded")]
    PluginsLoading,
    /// The organization has no such webhook endpoint.
    #[error("Webhook not found")]
    EndpointNotFound,
    /// Another endpoint has this organization, event and URL.
    #[error("another webhook has this organization, event and URL")]
    EndpointTaken,
    /// The organization has as many endpoints as it may have.
    #[error("the organization has as many webhooks as it may have")]
    TooManyEndpoints,
    /// Nothing can be sent to an endpoint that is disabled.
    #[error("the webhook is disabled")]
    EndpointDisabled,
    /// The endpoint's secret was sealed with a key that this host does not have.
    #[error("the webhook's secret cannot be read")]
    SecretUnreadable,
    /// The endpoint has as many replaced secrets that still sign as it may have.
    #[error("too many replaced secrets still sign")]
    TooManySecrets,
    /// A request with this key is being carried out.
    #[error("a request with this key is being carried out")]
    RequestInWork,
    /// The key was used for another request.
    #[error("the key was used for another request")]
    KeyReused,
    /// The request was carried out, and the key that its answer was sealed with has left since.
    #[error("the stored answer cannot be read")]
    AnswerUnreadable,
    /// The organization has no such delivery.
    #[error("Delivery not found")]
    DeliveryNotFound,
    /// There is no such receipt, or it is another organization's.
    #[error("Log not found")]
    LogNotFound,
    /// The delivery has no body, because its shaper refused the event.
    #[error("the shaper refused the event: there is nothing to send")]
    NothingToSend,
    /// The organization asked for this too often.
    #[error("too many requests of this kind by one organization")]
    TooOften {
        /// The wait until the next is allowed.
        wait: Duration,
    },
    /// There is no such key.
    #[error("Key not found")]
    KeyNotFound,
    /// The organization, or the operator, has as many keys as it may have.
    #[error("the organization has as many keys as it may have")]
    TooManyKeys,
    /// A key cannot have these scopes; why, for people.
    #[error("{0}")]
    ScopesForbidden(String),
    /// Webhooks must not go there; why, for people.
    #[error("{0}")]
    TargetForbidden(String),
    /// The database or a plugin cannot be reached or is overloaded. Nothing is known to be stored: safe to repeat.
    #[error("something that is needed is not available")]
    Unavailable(#[source] Source),
    /// A defect of ours.
    #[error("internal error")]
    Internal(#[source] Source),
}

impl AppError {
    pub(crate) fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(Arc::new(error))
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            // A conflict was rolled back as a whole, so it is as safe to repeat as no connection at all.
            StoreError::Unavailable(_) | StoreError::Conflict(_) => {
                Self::Unavailable(Arc::new(error))
            }
            StoreError::Taken(_) => Self::EndpointTaken,
            // To whoever works with it: it is gone.
            StoreError::StoreRemoved => Self::StoreNotFound,
            _ => Self::Internal(Arc::new(error)),
        }
    }
}
