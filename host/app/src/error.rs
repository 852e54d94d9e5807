use std::sync::Arc;

use wharf_store::StoreError;

/// The error below, kept for the log. Shared, because one failed commit may answer many imports.
type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Why an operation could not be done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppError {
    /// No store has this sync token.
    #[error("Store not found")]
    StoreNotFound,
    /// The database cannot be reached or is overloaded: nothing is known to be stored, the request is safe to repeat.
    #[error("the database is not available")]
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
            StoreError::Unavailable(_) | StoreError::Conflict(_) => Self::Unavailable(Arc::new(error)),
            _ => Self::Internal(Arc::new(error)),
        }
    }
}
