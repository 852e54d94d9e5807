//! Ids in paths.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use uuid::Uuid;

use crate::{error::ApiError, values::hyphenated};

/// The id in a path. Text that is not a UUID answers 404: no record has such an id.
pub(crate) struct PathId<T>(pub(crate) T);

impl<S: Send + Sync, T: From<Uuid>> FromRequestParts<S> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::NotFound)?;
        let id = params
            .iter()
            .next()
            .and_then(|(_, text)| hyphenated(text).ok());
        id.map(|id| Self(id.into())).ok_or(ApiError::NotFound)
    }
}
