//! The list of an organization's webhooks, in pages.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, header},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use wharf_app::{App, ListCursor, MAX_WEBHOOKS_PER_PAGE};
use wharf_domain::OrganizationId;

use super::Webhook;
use crate::{
    error::ApiError,
    query::Query,
    request::request,
    values::{Note, Number},
};

type PageLimit = Number<1, { MAX_WEBHOOKS_PER_PAGE.cast_signed() as i64 }>;
/// An event, a blank and a URL.
type After = Note<2_304>;

request! {
    /// A page of an organization's webhooks.
    pub(in crate::routes) struct ListWebhooks {
        /// The organization. Webhooks of others are not listed.
        organization_id "organizationId": OrganizationId,
        /// The most webhooks on the page; 1,000 where it is left out.
        limit "limit": Option<PageLimit>,
        /// The `event` of the last webhook before the page, a blank and its `targetUrl`. The `Link` header has it.
        after "after": Option<After>,
    }
}

/// List webhooks
///
/// An organization's webhooks, ordered by event, then URL, in pages.
#[utoipa::path(get, path = "/webhooks", tag = "Webhooks", operation_id = "listWebhooks",
    security(("key" = ["webhooks:read"])),
    params(ListWebhooks),
    responses((status = 200, description = "A page of the organization's webhooks", body = [Webhook],
        headers(("Link" = Option<String>,
            description = "The next page, `rel=\"next\"`; left out with the last page")))))]
pub(in crate::routes) async fn list(
    State(app): State<App>,
    Query(request): Query<ListWebhooks>,
) -> Result<(Option<[(HeaderName, String); 1]>, Json<Vec<Webhook>>), ApiError> {
    let limit = request
        .limit
        .and_then(|limit| usize::try_from(limit.0).ok())
        .unwrap_or(MAX_WEBHOOKS_PER_PAGE);
    let after = request.after.as_ref().map(|after| cursor(&after.0));
    let organization = &request.organization_id;
    let page = app.webhooks(organization, after.as_ref(), limit).await?;
    let next = page.next.map(|next| link(organization, &next, limit));
    let webhooks = page.webhooks.into_iter().map(Webhook::from).collect();
    Ok((next.map(|next| [(header::LINK, next)]), Json(webhooks)))
}

fn cursor(after: &str) -> ListCursor {
    // No event's name and no URL has a blank.
    let (event, target_url) = after.split_once(' ').unwrap_or((after, ""));
    ListCursor {
        event: event.into(),
        target_url: target_url.into(),
    }
}

/// The next page by RFC 8288, relative to wherever the client asked.
fn link(organization: &OrganizationId, next: &ListCursor, limit: usize) -> String {
    let after = format!("{} {}", next.event, next.target_url);
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (organization, after) = (encode(organization.as_str()), encode(&after));
    // With the limit, so that whoever follows it gets pages of one size.
    format!("</webhooks?organizationId={organization}&limit={limit}&after={after}>; rel=\"next\"")
}
