//! Portal tokens: for a browser, for one organization, for an hour at most.

use std::time::Duration;

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::schema::{ObjectBuilder, Type},
};
use wharf_app::{App, Caller, MAX_PORTAL_LIFE, PortalRights};
use wharf_domain::{Invalid, OrganizationId};

use crate::{
    body::JsonBody,
    fields::Given,
    request::{Field, request},
    values::{Number, choice},
};

/// The life of a token if the request names none.
const DEFAULT_LIFE: Duration = Duration::from_secs(15 * 60);
/// [`MAX_PORTAL_LIFE`] as a bound of a field.
const MAX_SECONDS: i64 = MAX_PORTAL_LIFE.as_secs().cast_signed();

impl Field for PortalRights {
    fn read(given: &Given) -> Result<Self, Invalid> {
        let parse = |text: &str| Self::ALL.into_iter().find(|one| one.as_str() == text);
        choice(given, parse, &Self::ALL.map(Self::as_str))
    }

    fn schema() -> ObjectBuilder {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(Self::ALL.map(Self::as_str)))
    }
}

request! {
    /// A token to be made.
    pub(in crate::routes) struct CreatePortalToken {
        /// The organization that it is for.
        organization_id "organizationId": OrganizationId,
        /// `read`: its stores, orders, webhooks and deliveries. `care`: also enable webhooks, rotate their secrets and send again.
        rights "rights": PortalRights,
        /// How long it lives; 900 by default.
        expires_in_seconds "expiresInSeconds": Option<Number<1, MAX_SECONDS>>,
    }
}

/// A token for a browser.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct CreatedPortalToken {
    #[schema(pattern = "^wharf_portal_[0-9a-f]+_[0-9a-f]{64}_[0-9a-f]{8}$")]
    token: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Make a portal token
///
/// For a browser that shows an organization its own. It ends early with the key that it is made with.
#[utoipa::path(post, path = "/portal-tokens", tag = "Keys", operation_id = "createPortalToken",
    security(("key" = ["keys:*"])),
    request_body = CreatePortalToken,
    responses((status = 201, description = "The token", body = CreatedPortalToken)))]
pub(in crate::routes) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    JsonBody(request): JsonBody<CreatePortalToken>,
) -> (StatusCode, Json<CreatedPortalToken>) {
    let life = request.expires_in_seconds.map_or(DEFAULT_LIFE, |seconds| {
        Duration::from_secs(seconds.0.unsigned_abs())
    });
    let made = app.portal_token(&caller, &request.organization_id, request.rights, life);
    let created = CreatedPortalToken {
        token: made.token,
        expires_at: made.ends_at.to_string(),
    };
    (StatusCode::CREATED, Json(created))
}
