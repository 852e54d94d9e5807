//! `/admin/plugins`: plugins for operators.

mod facts;
pub(super) mod target;
mod upload;
mod view;

use axum::{
    Json,
    extract::{Multipart, State, multipart::MultipartRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_app::{
    App, Digest, Once, OperationError, PluginChange, PluginDetails, PluginReport as AppReport,
    PluginTransition,
};
use wharf_domain::OrganizationId;

use crate::{
    body::{JsonBody, refuse_encoded},
    error::{ApiError, Refusal},
    once::{IdempotencyKey, Key},
    request::request,
    values::Note,
};

use self::{
    target::{ActorHeader, PluginPath, Target},
    upload::{PluginForm, Upload},
    view::PluginReport,
};

/// The reason where none was given.
const NO_REASON: &str = "an operator wanted it";

/// The plugins of this process.
#[derive(Serialize, ToSchema)]
pub(super) struct PluginList {
    plugins: Vec<PluginReport>,
    /// The reason why the plugins folder cannot be read, if it cannot.
    #[schema(required)]
    folder_problem: Option<String>,
}

/// List plugins
///
/// Sorted by name.
#[utoipa::path(get, path = "/admin/plugins", tag = "Admin", operation_id = "listPlugins",
    security(("key" = ["plugins:*"])),
    responses(
        (status = 200, description = "All of them", body = PluginList),
        (status = 404, description = "`Admin API disabled`: the host has no token", body = Refusal),
    ))]
pub(super) async fn list(State(app): State<App>) -> Json<PluginList> {
    Json(PluginList {
        plugins: app.plugins().into_iter().map(PluginReport::from).collect(),
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

impl Target {
    async fn change(self, change: PluginChange) -> Result<Json<PluginNow>, ApiError> {
        self.app
            .change_plugin(&self.plugin, change, &self.actor)
            .await?;
        // Read after the change, so it may show what another operator did in between.
        Ok(Json(self.now()))
    }

    /// Returns the plugin as it is now.
    fn now(self) -> PluginNow {
        PluginNow::of(&self.plugin, self.app.plugin_report(&self.plugin))
    }
}

impl PluginNow {
    fn of(plugin: &str, report: Option<AppReport>) -> Self {
        match report {
            Some(report) => Self::Here(Box::new(report.into())),
            None => Self::Absent(AbsentPlugin {
                plugin: plugin.to_owned(),
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
    security(("key" = ["plugins:*"])),
    params(PluginPath),
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
        report: report.into(),
        transitions,
    }))
}

/// Upload a plugin
///
/// It goes through the same stages as a file in the watched folder, and serves, or the answer says why not.
#[utoipa::path(post, path = "/admin/plugins/{plugin}", tag = "Admin", operation_id = "uploadPlugin",
    security(("key" = ["plugins:*"])),
    params(PluginPath, ActorHeader),
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
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Json<PluginNow>, ApiError> {
    refuse_encoded(&headers)?;
    let Upload { component, grants } =
        Upload::read(form.map_err(|_| ApiError::NotMultipart)?).await?;
    target
        .app
        .upload_plugin(&target.plugin, component.into(), grants, &target.actor)
        .await?;
    Ok(Json(target.now()))
}

request! {
    /// A revision of a plugin.
    pub(super) struct Revision {
        /// Its SHA-256.
        digest "digest": Digest,
    }
}

request! {
    /// The reason why a plugin is to be disabled.
    pub(super) struct DisablePlugin {
        /// For the audit.
        reason "reason": Option<Note<500>>,
    }
}

request! {
    /// A revision to be quarantined.
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
    security(("key" = ["plugins:*"])),
    params(PluginPath, ActorHeader),
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
/// The revision before serves again. Only a process that dies in the middle may roll back once more at a repeat of its
/// request: what serves is a file, and the answer a row.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/rollback", tag = "Admin", operation_id = "rollBackPlugin",
    security(("key" = ["plugins:*"])),
    params(PluginPath, ActorHeader, IdempotencyKey),
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginNow),
        (status = 404, description = "`Plugin not found`, `Revision not found`; `Admin API disabled`", body = Refusal),
        (status = 409, description = "`Revision is quarantined`: release it first", body = Refusal),
        (status = 422, description = "`Plugin refused`, `Plugin needs approval`, with the reasons in the details",
            body = Refusal),
        (status = 429, description = "`Too many requests`: too many of the operator's keys are kept", body = Refusal,
            headers(("Retry-After" = i64, description = "Seconds"))),
    ))]
pub(super) async fn rollback(target: Target, key: Key) -> Result<Response, ApiError> {
    let Target { app, plugin, actor } = target;
    let (app, operator, name) = (&app, OrganizationId::operator(), plugin.clone());
    let view = move |report: &Option<AppReport>| PluginNow::of(&name, report.clone());
    let roll_back = |once: Once<Option<AppReport>>| async move {
        let change = PluginChange::RollBack;
        app.change_plugin(&plugin, change, &actor).await?;
        let now = app.plugin_report(&plugin);
        once.keep(&now).await?;
        Ok::<_, ApiError>(now)
    };
    key.once(app, &operator, StatusCode::OK, view, roll_back)
        .await
}

/// Disable a plugin
///
/// Its calls wait, no attempt is burnt.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/disable", tag = "Admin", operation_id = "disablePlugin",
    security(("key" = ["plugins:*"])),
    params(PluginPath, ActorHeader),
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

/// Enable a plugin
///
/// Its calls go on.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/enable", tag = "Admin", operation_id = "enablePlugin",
    security(("key" = ["plugins:*"])),
    params(PluginPath, ActorHeader),
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginNow),
        (status = 404, description = "`Plugin not found`; `Admin API disabled`", body = Refusal),
        (status = 422, description = "`Plugin refused`, `Plugin needs approval`, with the reasons in the details",
            body = Refusal),
    ))]
pub(super) async fn enable(target: Target) -> Result<Json<PluginNow>, ApiError> {
    target.change(PluginChange::Enable).await
}

/// Quarantine a revision
///
/// It may not serve until it is released; the one before takes over.
#[utoipa::path(post, path = "/admin/plugins/{plugin}/quarantine", tag = "Admin", operation_id = "quarantineRevision",
    security(("key" = ["plugins:*"])),
    params(PluginPath, ActorHeader),
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
    security(("key" = ["plugins:*"])),
    params(PluginPath, ActorHeader),
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
