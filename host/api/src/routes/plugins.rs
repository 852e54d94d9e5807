//! `/admin/plugins`: what operators see of plugins and do with them.

use axum::{
    Json,
    extract::{
        FromRequestParts, Multipart, Path, State,
        multipart::{MultipartError, MultipartRejection},
    },
    http::{HeaderMap, StatusCode, request::Parts},
};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::{
    App, Digest, OperationError, PluginChange, PluginDetails, PluginReport, PluginTransition,
    UploadedGrants,
};

use crate::{
    ApiState,
    body::JsonBody,
    error::{ApiError, Detail, Refusal},
    request::request,
    values::Note,
};

/// The header in which a client may say who acts, for the audit.
const ACTOR: &str = "x-wharf-actor";
const MAX_ACTOR: usize = 64;
/// A reason where none was given.
const NO_REASON: &str = "an operator wanted it";

/// The plugins of this process.
#[derive(Serialize, ToSchema)]
pub(super) struct PluginList {
    plugins: Vec<PluginReport>,
    /// Why the plugins folder cannot be read, if it cannot.
    #[schema(required)]
    folder_problem: Option<String>,
}

/// List plugins
///
/// Sorted by name.
#[utoipa::path(get, path = "/admin/plugins", tag = "Admin", operation_id = "listPlugins",
    responses(
        (status = 200, description = "All of them", body = PluginList),
        (status = 404, description = "`Admin API disabled`: the host has no token", body = Refusal),
    ))]
pub(super) async fn list(State(app): State<App>) -> Json<PluginList> {
    Json(PluginList {
        plugins: app.plugins(),
        folder_problem: app.plugins_problem(),
    })
}

/// A plugin with its audit.
#[derive(Serialize, ToSchema)]
pub(super) struct PluginDetail {
    #[serde(flatten)]
    report: PluginReport,
    /// The newest first.
    transitions: Vec<PluginStep>,
}

/// A row of the audit.
#[derive(Serialize, ToSchema)]
struct PluginStep {
    #[schema(format = DateTime)]
    at: String,
    #[schema(required)]
    digest: Option<String>,
    #[schema(required)]
    from: Option<String>,
    to: String,
    reason: String,
    actor: String,
}

impl From<PluginTransition> for PluginStep {
    fn from(step: PluginTransition) -> Self {
        let PluginTransition {
            id: _,
            at,
            plugin: _,
            digest,
            from,
            to,
            reason,
            actor,
        } = step;
        Self {
            at: at.to_string(),
            digest,
            from,
            to,
            reason,
            actor,
        }
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
        Ok(Self {
            app: state.app.clone(),
            plugin,
            actor: actor(&parts.headers),
        })
    }
}

impl Target {
    async fn change(self, change: PluginChange) -> Result<Json<PluginNow>, ApiError> {
        self.app
            .change_plugin(&self.plugin, change, &self.actor)
            .await?;
        Ok(Json(self.now()))
    }

    /// The plugin as it is now.
    fn now(self) -> PluginNow {
        match self.app.plugin_report(&self.plugin) {
            Some(report) => PluginNow::Here(Box::new(report)),
            None => PluginNow::Absent(AbsentPlugin {
                plugin: self.plugin,
                state: Absence::Absent,
            }),
        }
    }
}

/// A plugin after a change. A release may leave nothing of it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum PluginNow {
    Here(Box<PluginReport>),
    Absent(AbsentPlugin),
}

/// A plugin of which nothing is left.
#[derive(Serialize, ToSchema)]
pub(super) struct AbsentPlugin {
    plugin: String,
    state: Absence,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Absence {
    Absent,
}

/// Read a plugin
///
/// Manifest, imports, grants, limits, revisions, counters and last faults of this process, and the audit.
#[utoipa::path(get, path = "/admin/plugins/{plugin}", tag = "Admin", operation_id = "showPlugin",
    params(("plugin" = String, Path, description = "The plugin's name", example = "etsy")),
    responses(
        (status = 200, description = "All that is known of it", body = PluginDetail),
        (status = 404, description = "`Plugin not found`; `Admin API disabled`", body = Refusal),
    ))]
pub(super) async fn inspect(target: Target) -> Result<Json<PluginDetail>, ApiError> {
    let details = target.app.plugin(&target.plugin).await?;
    let PluginDetails {
        report,
        transitions,
    } = details.ok_or(OperationError::NoSuchPlugin)?;
    let transitions = transitions.into_iter().map(PluginStep::from).collect();
    Ok(Json(PluginDetail {
        report,
        transitions,
    }))
}

/// A plugin to be uploaded.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes the form; `Upload` reads it")]
pub(super) struct PluginForm {
    /// The component, at most 32 MiB.
    #[schema(value_type = String, format = Binary)]
    component: Vec<u8>,
    /// The text of its grants (TOML). Without this part it keeps those that its predecessor has; empty, it has none.
    grants: Option<String>,
}

/// Upload a plugin
///
/// It goes through the same stages as a file in the watched folder, and serves, or the answer says why not.
#[utoipa::path(post, path = "/admin/plugins/{plugin}", tag = "Admin", operation_id = "uploadPlugin",
    params(("plugin" = String, Path, description = "The plugin's name", example = "etsy"),
        ("X-Wharf-Actor" = Option<String>, Header, description = "Who acts, for the audit")),
    request_body(content = PluginForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "It serves", body = PluginNow),
        (status = 404, description = "`Plugin not found`: no plugin can have this name; `Admin API disabled`",
            body = Refusal),
        (status = 409, description = "`Revision is quarantined`: release it first", body = Refusal),
        (status = 413, description = "`Payload too large`: at most 32 MiB", body = Refusal),
        (status = 415, description = "`Unsupported media type`: use multipart/form-data", body = Refusal),
        (status = 422, description = "`Plugin refused`, `Plugin needs approval`, with `stage`, `cause`, `offer` and \
            `fix` in the details; what served before goes on", body = Refusal),
    ))]
pub(super) async fn upload(
    target: Target,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Json<PluginNow>, ApiError> {
    let Upload { component, grants } =
        Upload::read(form.map_err(|_| ApiError::NotMultipart)?).await?;
    target
        .app
        .upload_plugin(&target.plugin, component.into(), grants, &target.actor)
        .await?;
    Ok(Json(target.now()))
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
                Some("grants") => {
                    grants =
                        UploadedGrants::Text(text(part.bytes().await.map_err(refused)?.into())?)
                }
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
    ApiError::Validation(vec![Detail {
        path,
        message: message.into(),
    }])
}

fn refused(error: MultipartError) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::UploadTooLarge,
        _ => ApiError::Malformed("the body is not a valid multipart form"),
    }
}

request! {
    /// A revision of a plugin.
    pub(super) struct Revision {
        /// Its SHA-256.
        digest "digest": Digest,
    }
}

request! {
    /// Why a plugin is to be switched off.
    pub(super) struct DisablePlugin {
        /// For the audit.
        reason "reason": Option<Note<500>>,
    }
}

request! {
    /// A revision that is to be put aside.
    pub(super) struct QuarantineRevision {
        /// Its SHA-256.
        digest "digest": Digest,
        /// For the audit.
        reason "reason": Option<Note<500>>,
    }
}

/// Activate a revision
///
/// A retained revision serves.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/activate", tag = "Admin", operation_id = "activateRevision",
    params(("plugin" = String, Path, description = "The plugin's name", example = "etsy"),
        ("X-Wharf-Actor" = Option<String>, Header, description = "Who acts, for the audit")),
    request_body = Revision,
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginNow),
        (status = 404, description = "`Plugin not found`, `Revision not found`; `Admin API disabled`", body = Refusal),
        (status = 409, description = "`Revision is quarantined`: release it first", body = Refusal),
        (status = 422, description = "`Plugin refused`, `Plugin needs approval`, with the reasons in the details",
            body = Refusal),
    ))]
pub(super) async fn activate(
    target: Target,
    JsonBody(revision): JsonBody<Revision>,
) -> Result<Json<PluginNow>, ApiError> {
    target.change(PluginChange::Activate(revision.digest)).await
}

/// Roll a plugin back
///
/// The revision before serves again.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/rollback", tag = "Admin", operation_id = "rollBackPlugin",
    params(("plugin" = String, Path, description = "The plugin's name", example = "etsy"),
        ("X-Wharf-Actor" = Option<String>, Header, description = "Who acts, for the audit")),
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginNow),
        (status = 404, description = "`Plugin not found`, `Revision not found`; `Admin API disabled`", body = Refusal),
        (status = 409, description = "`Revision is quarantined`: release it first", body = Refusal),
        (status = 422, description = "`Plugin refused`, `Plugin needs approval`, with the reasons in the details",
            body = Refusal),
    ))]
pub(super) async fn rollback(target: Target) -> Result<Json<PluginNow>, ApiError> {
    target.change(PluginChange::RollBack).await
}

/// Switch a plugin off
///
/// Its calls wait, no attempt is burnt.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/disable", tag = "Admin", operation_id = "disablePlugin",
    params(("plugin" = String, Path, description = "The plugin's name", example = "etsy"),
        ("X-Wharf-Actor" = Option<String>, Header, description = "Who acts, for the audit")),
    request_body = DisablePlugin,
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginNow),
        (status = 404, description = "`Plugin not found`; `Admin API disabled`", body = Refusal),
    ))]
pub(super) async fn disable(
    target: Target,
    JsonBody(request): JsonBody<DisablePlugin>,
) -> Result<Json<PluginNow>, ApiError> {
    target
        .change(PluginChange::Disable {
            reason: given(request.reason),
        })
        .await
}

/// Switch a plugin on
///
/// Its calls go on.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/enable", tag = "Admin", operation_id = "enablePlugin",
    params(("plugin" = String, Path, description = "The plugin's name", example = "etsy"),
        ("X-Wharf-Actor" = Option<String>, Header, description = "Who acts, for the audit")),
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginNow),
        (status = 404, description = "`Plugin not found`; `Admin API disabled`", body = Refusal),
        (status = 422, description = "`Plugin refused`, `Plugin needs approval`, with the reasons in the details",
            body = Refusal),
    ))]
pub(super) async fn enable(target: Target) -> Result<Json<PluginNow>, ApiError> {
    target.change(PluginChange::Enable).await
}

/// Put a revision aside
///
/// It may not serve until it is released; the one before takes over.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/quarantine", tag = "Admin", operation_id = "quarantineRevision",
    params(("plugin" = String, Path, description = "The plugin's name", example = "etsy"),
        ("X-Wharf-Actor" = Option<String>, Header, description = "Who acts, for the audit")),
    request_body = QuarantineRevision,
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginNow),
        (status = 404, description = "`Plugin not found`, `Revision not found`; `Admin API disabled`", body = Refusal),
    ))]
pub(super) async fn quarantine(
    target: Target,
    JsonBody(request): JsonBody<QuarantineRevision>,
) -> Result<Json<PluginNow>, ApiError> {
    let QuarantineRevision { digest, reason } = request;
    target
        .change(PluginChange::Quarantine {
            digest,
            reason: given(reason),
        })
        .await
}

/// Release a revision
///
/// It may serve again.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/release", tag = "Admin", operation_id = "releaseRevision",
    params(("plugin" = String, Path, description = "The plugin's name", example = "etsy"),
        ("X-Wharf-Actor" = Option<String>, Header, description = "Who acts, for the audit")),
    request_body = Revision,
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginNow),
        (status = 404, description = "`Plugin not found`, `Revision not found`; `Admin API disabled`", body = Refusal),
        (status = 422, description = "`Plugin refused`, `Plugin needs approval`, with the reasons in the details",
            body = Refusal),
    ))]
pub(super) async fn release(
    target: Target,
    JsonBody(revision): JsonBody<Revision>,
) -> Result<Json<PluginNow>, ApiError> {
    target.change(PluginChange::Release(revision.digest)).await
}

fn given(reason: Option<Note<500>>) -> String {
    reason.map_or_else(|| NO_REASON.into(), |reason| reason.0)
}

/// Who acts: the admin, and the name that the client gives itself.
fn actor(headers: &HeaderMap) -> String {
    let name = headers
        .get(ACTOR)
        .and_then(|name| name.to_str().ok())
        .map(str::trim)
        .filter(|name| !name.is_empty());
    name.map_or_else(
        || "admin".into(),
        |name| format!("admin {name:.MAX_ACTOR$}"),
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_audit_names_who_acts() {
        let named = |name: &'static str| {
            actor(&HeaderMap::from_iter([(
                axum::http::HeaderName::from_static(ACTOR),
                HeaderValue::from_static(name),
            )]))
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
            "admin ".len() + MAX_ACTOR
        );
    }
}
