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
        let [id] = ids(parts, state).await?;
        Ok(Self(id.into()))
    }
}

/// The two ids in a path, in the same way.
pub(crate) struct PathIds<A, B>(pub(crate) A, pub(crate) B);

impl<S: Send + Sync, A: From<Uuid>, B: From<Uuid>> FromRequestParts<S> for PathIds<A, B> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let [first, second] = ids(parts, state).await?;
        Ok(Self(first.into(), second.into()))
    }
}

async fn ids<const N: usize>(
    parts: &mut Parts,
    state: &(impl Send + Sync),
) -> Result<[Uuid; N], ApiError> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| ApiError::NotFound)?;
    let ids: Result<Vec<Uuid>, _> = params.iter().map(|(_, text)| hyphenated(text)).collect();
    let ids = ids.ok().and_then(|ids| ids.try_into().ok());
    ids.ok_or(ApiError::NotFound)
}
