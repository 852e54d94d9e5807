//! `/admin/holds`: what no marketplace is asked for, for operators.

use axum::{Extension, Json, extract::State, http::HeaderMap};
use serde::Serialize;
use utoipa::{ToSchema, openapi::schema::ObjectBuilder};
use uuid::Uuid;
use wharf_app::{App, AppError, Caller};
use wharf_domain::{HoldTarget, Invalid, MarketplaceName, OrganizationId, StoreId};

use super::{
    plugins::target::{ActorHeader, actor},
    stores::{hold::Reason, view::Hold},
};
use crate::{
    body::JsonBody,
    error::{ApiError, Detail, Refusal},
    fields::Given,
    query::Query,
    request::{Field, request},
    values::{Note, Number, choice, hyphenated, string},
};

/// Page size if the request names none.
const DEFAULT_LIMIT: usize = 50;
type PageLimit = Number<1, 100>;

/// A kind of hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum HoldKind {
    Store,
    Organization,
    Marketplace,
}

impl HoldKind {
    const NAMES: [&str; 3] = ["store", "organization", "marketplace"];

    const fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn parse(name: &str) -> Option<Self> {
        let all = [Self::Store, Self::Organization, Self::Marketplace];
        all.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What is held, if this kind has such names.
    fn target(self, name: String) -> Result<HoldTarget, ApiError> {
        let target = match self {
            // As in a path: no store has such an id.
            Self::Store => {
                let id = hyphenated(&name).map_err(|_| AppError::StoreNotFound)?;
                Ok(HoldTarget::Store(StoreId(id)))
            }
            Self::Organization => OrganizationId::parse(&name).map(HoldTarget::Organization),
            Self::Marketplace => MarketplaceName::parse(&name).map(HoldTarget::Marketplace),
        };
        target.map_err(|Invalid(message)| {
            ApiError::Validation(vec![Detail {
                path: "name",
                message,
            }])
        })
    }
}

impl Field for HoldKind {
    fn read(given: &Given) -> Result<Self, Invalid> {
        choice(given, Self::parse, &Self::NAMES)
    }

    fn schema() -> ObjectBuilder {
        string().enum_values(Some(Self::NAMES))
    }
}

/// A page of holds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HoldPage {
    items: Vec<Hold>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    next_cursor: Option<Uuid>,
}

request! {
    /// A page of holds.
    pub(super) struct ListHolds {
        /// Only holds of this kind.
        what "what": Option<HoldKind>,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<Uuid>,
        /// Page size; 50 by default.
        limit "limit": Option<PageLimit>,
    }
}

/// List holds
///
/// Newest first, those of organizations among them.
#[utoipa::path(get, path = "/admin/holds", tag = "Admin", operation_id = "listHolds",
    security(("key" = ["operator"])),
    params(ListHolds),
    responses(
        (status = 200, description = "A page of holds", body = HoldPage),
        (status = 404, description = "`Admin API disabled`: the host has no token", body = Refusal),
    ))]
pub(super) async fn list(
    State(app): State<App>,
    Query(request): Query<ListHolds>,
) -> Result<Json<HoldPage>, ApiError> {
    let limit = request
        .limit
        .and_then(|limit| usize::try_from(limit.0).ok());
    let what = request.what.map(HoldKind::as_str);
    let page = app
        .list_holds(what, request.cursor, limit.unwrap_or(DEFAULT_LIMIT))
        .await?;
    Ok(Json(HoldPage {
        items: page.holds.into_iter().map(Hold::from).collect(),
        next_cursor: page.next,
    }))
}

request! {
    /// Something to hold.
    pub(super) struct PlaceHold {
        /// What it is.
        what "what": HoldKind,
        /// The store's id, the organization or the marketplace.
        name "name": Note<255>,
        /// The reason, for people.
        reason "reason": Option<Reason>,
    }
}

/// Hold a store, an organization or a marketplace
///
/// No marketplace is asked anything for what is held, by any process within two seconds: syncs wait, and imports of receipts
/// that are not known yet are refused. Repeating it changes nothing; the first reason stays. An organization or marketplace
/// need not be known yet.
#[utoipa::path(post, path = "/admin/holds", tag = "Admin", operation_id = "placeHold",
    security(("key" = ["operator"])),
    params(ActorHeader),
    request_body = PlaceHold,
    responses(
        (status = 200, description = "The hold", body = Hold),
        (status = 404, description = "`Store not found`, or `Admin API disabled`", body = Refusal),
        (status = 409, description = "`Too many holds`: a host may have 10,000", body = Refusal),
    ))]
pub(super) async fn place(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<PlaceHold>,
) -> Result<Json<Hold>, ApiError> {
    let target = request.what.target(request.name.0)?;
    let reason = request.reason.as_ref().map(|reason| reason.0.as_str());
    let hold = app.hold(&actor(&caller, &headers), &target, reason).await?;
    Ok(Json(hold.into()))
}

request! {
    /// A hold to end.
    pub(super) struct EndHold {
        /// What is held.
        what "what": HoldKind,
        /// The store's id, the organization or the marketplace.
        name "name": Note<255>,
    }
}

/// The end of a hold.
#[derive(Serialize, ToSchema)]
pub(super) struct EndedHold {
    /// False where there was none by an operator.
    ended: bool,
}

/// Resume a store, an organization or a marketplace
///
/// Ends an operator's hold; what waited is due at once, if nothing else holds it. Repeating it changes nothing.
#[utoipa::path(post, path = "/admin/holds/resume", tag = "Admin", operation_id = "endHold",
    security(("key" = ["operator"])),
    params(ActorHeader),
    request_body = EndHold,
    responses(
        (status = 200, description = "It is not held by an operator any more", body = EndedHold),
        (status = 404, description = "`Store not found`, or `Admin API disabled`", body = Refusal),
    ))]
pub(super) async fn end(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<EndHold>,
) -> Result<Json<EndedHold>, ApiError> {
    let target = request.what.target(request.name.0)?;
    let ended = app.resume(&actor(&caller, &headers), &target).await?;
    Ok(Json(EndedHold { ended }))
}
