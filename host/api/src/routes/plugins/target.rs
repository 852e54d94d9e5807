//! The parameters of every request about one plugin: its name in the path, and the actor in a header.

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderMap, request::Parts},
};
use utoipa::IntoParams;
use wharf_app::{App, Caller, OperationError};

use crate::{ApiState, error::ApiError, tenancy::caller};

/// The header in which a client may say who acts, for the audit.
const ACTOR: &str = "x-wharf-actor";
/// Characters of that name.
const MAX_ACTOR: usize = 64;

/// The plugin in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "it describes the path; `Target` reads it")]
pub(super) struct PluginPath {
    /// The plugin's name
    #[param(example = "etsy")]
    plugin: String,
}

/// The actor of a change.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "it describes the header; `Target` reads it")]
pub(in crate::routes) struct ActorHeader {
    /// The actor, for the audit
    #[param(rename = "X-Wharf-Actor")]
    actor: Option<String>,
}

/// The plugin that a request is about, and the actor.
pub(in crate::routes) struct Target {
    pub(super) app: App,
    pub(super) plugin: String,
    pub(super) actor: String,
}

impl FromRequestParts<ApiState> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        // A path that is no text names no plugin.
        let Path(plugin) = path.map_err(|_| OperationError::NoSuchPlugin)?;
        Ok(Self {
            app: state.app.clone(),
            plugin,
            actor: actor(&caller(&parts.extensions)?, &parts.headers),
        })
    }
}

/// Returns the actor: the admin or the key, and the name that the client gives itself.
pub(in crate::routes) fn actor(caller: &Caller, headers: &HeaderMap) -> String {
    let name = headers
        .get(ACTOR)
        .and_then(|name| name.to_str().ok())
        .map(str::trim)
        .filter(|name| !name.is_empty());
    name.map_or_else(
        || caller.actor().into(),
        // A claim and no proof: all share one token. Cut, so that nobody fills the audit with one request.
        |name| format!("{} {name:.MAX_ACTOR$}", caller.actor()),
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_audit_names_who_acts() {
        let of = |headers: &HeaderMap| actor(&Caller::admin(), headers);
        let named = |name: &'static str| {
            of(&HeaderMap::from_iter([(
                axum::http::HeaderName::from_static(ACTOR),
                HeaderValue::from_static(name),
            )]))
        };
        assert_eq!(of(&HeaderMap::new()), "admin");
        assert_eq!(named("  "), "admin");
        assert_eq!(named(" ada "), "admin ada");
        assert_eq!(
            of(&HeaderMap::from_iter([(
                axum::http::HeaderName::from_static(ACTOR),
                HeaderValue::from_str(&"x".repeat(100)).expect("a header value"),
            )]))
            .len(),
            "admin ".len() + MAX_ACTOR
        );
    }
}
