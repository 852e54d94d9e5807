//! What is refused before anything is done, whatever the route.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    browser::{self, AllowedHosts},
    error::ApiError,
    loops,
};

/// Refuses webhooks, hosts that are not this one, and what pages of other origins send.
// One layer for all three: each costs every request an allocation.
pub(crate) async fn guard(
    State(hosts): State<Arc<AllowedHosts>>,
    request: Request,
    next: Next,
) -> Response {
    match judge(&hosts, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn judge(hosts: &AllowedHosts, request: &Request) -> Result<(), ApiError> {
    loops::refuse_webhooks(request.headers())?;
    hosts.check(request)?;
    browser::refuse_foreign(request)
}
