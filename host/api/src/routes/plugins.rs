//! `/admin/plugins`: what operators see of plugins and do with them.

use axum::{
    Json,
    extract::{
        FromRequestParts, Multipart, Path, State,
        multipart::{MultipartError, MultipartRejection},
    },
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use wharf_app::{
    App, Digest, OperationError, PluginChange, PluginDetails, PluginReport, PluginTransition, UploadedGrants,
};
use wharf_domain::Invalid;

use crate::{
    ApiState,
    body::JsonBody,
    error::{ApiError, Detail},
    fields::Fields,
};

/// The header in which a client may say who acts, for the audit.
const ACTOR: &str = "x-wharf-actor";
const LONGEST_ACTOR: usize = 64;
const LONGEST_REASON: usize = 500;
/// A reason where none was given.
const NO_REASON: &str = "an operator wanted it";

#[derive(Serialize)]
pub(super) struct Listed {
    plugins: Vec<PluginReport>,
    /// Why the plugins folder cannot be read, if it cannot.
    folder_problem: Option<String>,
}

/// `GET /admin/plugins`: every plugin, sorted by name.
pub(super) async fn list(State(app): State<App>) -> Json<Listed> {
    Json(Listed { plugins: app.plugins(), folder_problem: app.plugins_problem() })
}

#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    report: PluginReport,
    transitions: Vec<Step>,
}

/// A row of the audit.
#[derive(Serialize)]
struct Step {
    at: String,
    digest: Option<String>,
    from: Option<String>,
    to: String,
    reason: String,
    actor: String,
}

impl From<PluginTransition> for Step {
    fn from(step: PluginTransition) -> Self {
        let PluginTransition { id: _, at, plugin: _, digest, from, to, reason, actor } = step;
        Self { at: at.to_string(), digest, from, to, reason, actor }
    }
}

/// The plugin that a request is about, and who acts.
pub(super) struct Target {
    app: App,
    plugin: String,
    actor: String,
}

impl FromRequestParts<ApiState> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(plugin) = path.map_err(|_| OperationError::NoSuchPlugin)?;
        Ok(Self { app: state.app.clone(), plugin, actor: actor(&parts.headers) })
    }
}

impl Target {
    async fn change(self, change: PluginChange) -> Result<Response, ApiError> {
        self.app.change_plugin(&self.plugin, change, &self.actor).await?;
        Ok(self.now())
    }

    /// The plugin as it is now. A release may leave nothing of it.
    fn now(&self) -> Response {
        match self.app.plugin_report(&self.plugin) {
            Some(report) => Json(report).into_response(),
            None => Json(json!({"plugin": self.plugin, "state": "absent"})).into_response(),
        }
    }
}

/// `GET /admin/plugins/{plugin}`: one plugin with everything that is known of it.
pub(super) async fn inspect(target: Target) -> Result<Response, ApiError> {
    let details = target.app.plugin(&target.plugin).await?;
    let PluginDetails { report, transitions } = details.ok_or(OperationError::NoSuchPlugin)?;
    let transitions = transitions.into_iter().map(Step::from).collect();
    Ok(Json(Inspected { report, transitions }).into_response())
}

/// `POST /admin/plugins/{plugin}`: a form with the part `component` and perhaps the part `grants`. It serves, or the
/// answer says why not. Without grants it keeps those that its predecessor has.
pub(super) async fn upload(target: Target, form: Result<Multipart, MultipartRejection>) -> Result<Response, ApiError> {
    let Upload { component, grants } = Upload::read(form.map_err(|_| ApiError::NotMultipart)?).await?;
    target.app.upload_plugin(&target.plugin, component.into(), grants, &target.actor).await?;
    Ok(target.now())
}

struct Upload {
    component: Vec<u8>,
    grants: UploadedGrants,
}

impl Upload {
    async fn read(mut form: Multipart) -> Result<Self, ApiError> {
        let (mut component, mut grants) = (None, UploadedGrants::AsBefore);
        while let Some(part) = form.next_field().await.map_err(refused)? {
            match part.name() {
                Some("component") => component = Some(part.bytes().await.map_err(refused)?.into()),
                Some("grants") => grants = UploadedGrants::Text(text(part.bytes().await.map_err(refused)?.into())?),
                _ => drop(part.bytes().await.map_err(refused)?),
            }
        }
        let component = component.ok_or_else(|| invalid("component", "is required"))?;
        Ok(Self { component, grants })
    }
}

fn text(bytes: Vec<u8>) -> Result<String, ApiError> {
    String::from_utf8(bytes).map_err(|_| invalid("grants", "must be UTF-8"))
}

fn invalid(path: &'static str, message: &str) -> ApiError {
    ApiError::Validation(vec![Detail { path, message: message.into() }])
}

fn refused(error: MultipartError) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::UploadTooLarge,
        _ => ApiError::Malformed("the body is not a valid multipart form"),
    }
}

/// `POST /admin/plugins/{plugin}/activate {digest}`.
pub(super) async fn activate(target: Target, JsonBody(mut fields): JsonBody) -> Result<Response, ApiError> {
    let Some(digest) = fields.required("digest", digest) else { return Err(fields.refusal()) };
    target.change(PluginChange::Activate(digest)).await
}

/// `POST /admin/plugins/{plugin}/rollback`.
pub(super) async fn rollback(target: Target) -> Result<Response, ApiError> {
    target.change(PluginChange::RollBack).await
}

/// `POST /admin/plugins/{plugin}/disable {reason?}`.
pub(super) async fn disable(target: Target, JsonBody(mut fields): JsonBody) -> Result<Response, ApiError> {
    let Some(reason) = given_reason(&mut fields) else { return Err(fields.refusal()) };
    target.change(PluginChange::Disable { reason }).await
}

/// `POST /admin/plugins/{plugin}/enable`.
pub(super) async fn enable(target: Target) -> Result<Response, ApiError> {
    target.change(PluginChange::Enable).await
}

/// `POST /admin/plugins/{plugin}/quarantine {digest, reason?}`.
pub(super) async fn quarantine(target: Target, JsonBody(mut fields): JsonBody) -> Result<Response, ApiError> {
    let (digest, reason) = (fields.required("digest", digest), given_reason(&mut fields));
    let (Some(digest), Some(reason)) = (digest, reason) else { return Err(fields.refusal()) };
    target.change(PluginChange::Quarantine { digest, reason }).await
}

/// `POST /admin/plugins/{plugin}/release {digest}`.
pub(super) async fn release(target: Target, JsonBody(mut fields): JsonBody) -> Result<Response, ApiError> {
    let Some(digest) = fields.required("digest", digest) else { return Err(fields.refusal()) };
    target.change(PluginChange::Release(digest)).await
}

/// Who acts: the admin, and the name that the client gives itself.
fn actor(headers: &HeaderMap) -> String {
    let name = headers.get(ACTOR).and_then(|name| name.to_str().ok()).map(str::trim).filter(|name| !name.is_empty());
    name.map_or_else(|| "admin".into(), |name| format!("admin {name:.LONGEST_ACTOR$}"))
}

fn digest(text: &str) -> Result<Digest, Invalid> {
    Digest::parse(text).ok_or_else(|| Invalid("must be 64 hexadecimal digits".into()))
}

fn given_reason(fields: &mut Fields) -> Option<String> {
    let reason = fields.optional("reason", |text| {
        let most = || Invalid(format!("must be at most {LONGEST_REASON} characters"));
        if text.chars().count() <= LONGEST_REASON { Ok(text.to_owned()) } else { Err(most()) }
    })?;
    Some(reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| NO_REASON.into()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_audit_names_who_acts() {
        let named = |name: &'static str| {
            actor(&HeaderMap::from_iter([(axum::http::HeaderName::from_static(ACTOR), HeaderValue::from_static(name))]))
        };
        assert_eq!(actor(&HeaderMap::new()), "admin");
        assert_eq!(named("  "), "admin");
        assert_eq!(named(" ada "), "admin ada");
        assert_eq!(
            actor(&HeaderMap::from_iter([(
                axum::http::HeaderName::from_static(ACTOR),
                HeaderValue::from_str(&"x".repeat(100)).expect("a header value"),
            )]))
            .len(),
            "admin ".len() + LONGEST_ACTOR
        );
    }

    #[test]
    fn a_reason_may_be_absent_but_not_endless() {
        let fields = |value: serde_json::Value| {
            let serde_json::Value::Object(object) = value else { panic!("not an object") };
            Fields::from_object(object)
        };
        assert_eq!(given_reason(&mut fields(json!({}))).as_deref(), Some(NO_REASON));
        assert_eq!(given_reason(&mut fields(json!({"reason": "it traps"}))).as_deref(), Some("it traps"));
        assert_eq!(given_reason(&mut fields(json!({"reason": "x".repeat(501)}))), None);
    }
}
