use axum::{Json, extract::State};
use serde::Serialize;
use wharf_app::{App, Endpoint, WebhookRegistration};
use wharf_domain::{EventKind, Invalid, OrganizationId, ShaperName, TargetUrl};

use crate::{body::JsonBody, error::ApiError, fields::Fields, query::Query};

/// A webhook endpoint as its owner sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    id: uuid::Uuid,
    organization_id: String,
    event: String,
    target_url: String,
    is_active: bool,
    shaper: String,
    /// Only where the endpoint has just been made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Endpoint> for Shown {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            id: endpoint.id.0,
            organization_id: endpoint.organization_id.to_string(),
            event: endpoint.event,
            target_url: endpoint.target_url,
            is_active: endpoint.is_active,
            shaper: endpoint.shaper.to_string(),
            secret: endpoint.secret,
        }
    }
}

/// `POST /webhooks/register`: idempotent on organization, event and URL.
pub(super) async fn register(State(app): State<App>, JsonBody(fields): JsonBody) -> Result<Json<Shown>, ApiError> {
    Ok(Json(app.register_webhook(registration(fields)?).await?.into()))
}

fn registration(mut fields: Fields) -> Result<WebhookRegistration, ApiError> {
    let organization_id = fields.required("organizationId", OrganizationId::parse);
    let event = fields.required("event", event_kind);
    let target_url = fields.required("targetUrl", TargetUrl::parse);
    let shaper = fields.optional("shaper", ShaperName::parse);
    match (organization_id, event, target_url, shaper) {
        (Some(organization_id), Some(event), Some(target_url), Some(shaper)) => {
            Ok(WebhookRegistration { organization_id, event, target_url, shaper })
        }
        _ => Err(fields.refusal()),
    }
}

fn event_kind(text: &str) -> Result<EventKind, Invalid> {
    let names = || EventKind::ALL.map(EventKind::as_str).join(", ");
    EventKind::parse(text).ok_or_else(|| Invalid(format!("must be one of {}", names())))
}

/// `GET /webhooks?organizationId=`: ordered by event, then URL.
pub(super) async fn list(State(app): State<App>, Query(mut fields): Query) -> Result<Json<Vec<Shown>>, ApiError> {
    let organization = fields.required("organizationId", OrganizationId::parse);
    let Some(organization) = organization else { return Err(fields.refusal()) };
    Ok(Json(app.webhooks(&organization).await?.into_iter().map(Shown::from).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(value: Value) -> Result<WebhookRegistration, Vec<String>> {
        let Value::Object(object) = value else { panic!("not an object") };
        registration(Fields::from_object(object)).map_err(|error| {
            let ApiError::Validation(details) = error else { panic!("another refusal") };
            details.into_iter().map(|detail| format!("{} {}", detail.path, detail.message)).collect()
        })
    }

    #[test]
    fn events_and_urls_are_checked_together() {
        let url = "http://127.0.0.1:4000/webhook";
        for event in ["sync.started", "sync.completed", "sync.failed"] {
            let parsed = parse(json!({"organizationId": "o", "event": event, "targetUrl": url}));
            assert_eq!(parsed.ok().map(|webhook| webhook.event.as_str()), Some(event));
        }
        let refused = parse(json!({"organizationId": "o", "event": "sync", "targetUrl": "ftp://a", "shaper": 5}));
        assert_eq!(
            refused.expect_err("a refusal"),
            [
                "event must be one of sync.completed, sync.failed, sync.started",
                "targetUrl must be an absolute http or https URL",
                "shaper must be a string",
            ]
        );
    }
}
