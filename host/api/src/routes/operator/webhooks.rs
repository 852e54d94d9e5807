//! `GET /admin/webhooks`: the webhooks of all organizations, and how they are doing.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_app::{App, Endpoint, MAX_DUE, ObservedWebhook as Observed, WebhookFilter, WebhookState};
use wharf_domain::{EndpointId, OrganizationId, Time};

use super::{PageLimit, shown, size};
use crate::{
    error::{ApiError, Refusal},
    query::Query,
    request::request,
    values::Note,
};

/// A webhook endpoint as the operator sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObservedWebhook {
    id: Uuid,
    /// Its owner; null for the operator's own.
    #[schema(required)]
    organization_id: Option<String>,
    event: String,
    target_url: String,
    shaper: String,
    is_active: bool,
    /// The reason why it is not active.
    #[schema(required)]
    disabled_reason: Option<String>,
    health: ObservedHealth,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// The health of an endpoint since its last success.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ObservedHealth {
    consecutive_failures: i64,
    #[schema(required, format = DateTime)]
    failing_since: Option<String>,
    /// Nothing is sent until then. Afterwards one delivery at a time is sent, until one succeeds.
    #[schema(required, format = DateTime)]
    paused_until: Option<String>,
    /// The last failed attempt's error in full. Its owner is not told the addresses behind a name.
    #[schema(required)]
    last_error: Option<String>,
    /// Deliveries that wait to be sent now; counted up to 1,000.
    #[schema(minimum = 0, maximum = 1_000)]
    due_deliveries: i64,
}

// The schema above has it as a literal.
const _: () = assert!(MAX_DUE == 1_000);

impl From<Observed> for ObservedWebhook {
    fn from(Observed { endpoint, figures }: Observed) -> Self {
        let time = |at: Option<Time>| at.map(|at| at.to_string());
        let Endpoint { health, .. } = endpoint;
        Self {
            id: endpoint.id.0,
            organization_id: shown(&endpoint.organization_id),
            event: endpoint.event,
            target_url: endpoint.target_url,
            shaper: endpoint.shaper.to_string(),
            is_active: endpoint.is_active,
            disabled_reason: endpoint.disabled_reason,
            health: ObservedHealth {
                consecutive_failures: health.failures,
                failing_since: time(health.failing_since),
                paused_until: time(health.paused_until),
                last_error: figures.last_error,
                due_deliveries: figures.due,
            },
            created_at: endpoint.created_at.to_string(),
            updated_at: endpoint.updated_at.to_string(),
        }
    }
}

/// A page of webhooks.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct ObservedPage {
    items: Vec<ObservedWebhook>,
    /// The `cursor` of the next page; null on the last. With a filter, a page may have less than `limit` and still not be
    /// the last: a request looks at 20,000 webhooks at most.
    #[schema(required)]
    next_cursor: Option<Uuid>,
}

request! {
    /// A page of all organizations' webhooks.
    pub(in crate::routes) struct AllWebhooks {
        /// Only of this organization.
        organization_id "organizationId": Option<OrganizationId>,
        /// Only in this state. `failing`: active, with failures since its last success; `disabled`: sent nothing.
        state "state": Option<WebhookState>,
        /// Only for this event.
        event "event": Option<Note<255>>,
        /// `nextCursor` of the previous page.
        cursor "cursor": Option<Uuid>,
        /// Page size; 50 by default.
        limit "limit": Option<PageLimit>,
    }
}

/// List all webhooks
///
/// Of all organizations and of the operator, in the order in which they were registered.
#[utoipa::path(get, path = "/admin/webhooks", tag = "Admin", operation_id = "allWebhooks",
    security(("key" = ["operator"])),
    params(AllWebhooks),
    responses(
        (status = 200, description = "A page of webhooks", body = ObservedPage),
        (status = 404, description = "`Admin API disabled`: the host has no token", body = Refusal),
    ))]
pub(in crate::routes) async fn list(
    State(app): State<App>,
    Query(request): Query<AllWebhooks>,
) -> Result<Json<ObservedPage>, ApiError> {
    let filter = WebhookFilter {
        organization: request.organization_id,
        state: request.state,
        event: request.event.map(|event| event.0),
    };
    let after = request.cursor.map(EndpointId);
    let page = app
        .all_webhooks(&filter, after, size(request.limit))
        .await?;
    Ok(Json(ObservedPage {
        items: page.items.into_iter().map(ObservedWebhook::from).collect(),
        next_cursor: page.next.map(|next| next.0),
    }))
}
