//! The HTTP API: the routes of the public contract, their refusals and the probes, on axum.
//!
//! Promise: whatever is sent, the answer is the contract's, and every refusal is JSON (`{"error", "message"?,
//! "details"?}`) that reveals nothing internal. A handler parses into domain types, calls one operation of [`wharf_app`]
//! and writes its result; there is no other logic here. Only `error.rs` maps errors to HTTP and logs them.
//!
//! [`serve`] serves it within bounds on time and connections. Left out: TLS and signals, which belong to the program; and
//! what is refused before a request exists (HTTP that cannot be parsed), which hyper answers without a body.

mod access;
mod basic_auth;
mod body;
mod browser;
mod docs;
mod door;
mod drain;
mod error;
mod fields;
mod limits;
mod loops;
mod measure;
mod observe;
mod once;
mod openapi;
mod path;
mod query;
mod request;
mod routes;
mod server;
mod tenancy;
mod values;

pub use access::ApiAuth;
pub use browser::{AllowedHost, AllowedHosts};
pub use limits::{ClientLimit, ClientLimits};
pub use server::{ServerSettings, serve};

use std::{any::Any, collections::HashMap, ops::Deref, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRef, Request, State},
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use wharf_app::App;

use crate::{
    access::{AdminToken, Declared, Gate},
    basic_auth::MockCredentials,
    door::Door,
    error::ApiError,
};

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// User and password of each mock marketplace, by its name in lower case. A marketplace without an entry
    /// answers 500 `Marketplace credentials not configured`.
    pub mock_credentials: HashMap<String, (String, SecretString)>,
    /// Bearer token of the admin API; without one it takes operators' keys alone.
    pub admin_token: Option<SecretString>,
    /// Whether clients have to show a key.
    pub auth: ApiAuth,
    /// Time that a client has to send a request's body; then 408.
    pub request_timeout: Duration,
    /// Time that an answer may take in all; then 503. Longer than a plugin call may last (30 s), so that an import
    /// whose marketplace is slow is still stored and answered.
    pub answer_timeout: Duration,
    /// Cancelled when the process is about to stop: it serves on, and says at `/readyz` that it is not ready.
    pub draining: CancellationToken,
    /// Adds `GET /metrics` to the API's routes. Off where metrics have an address of their own.
    pub metrics: bool,
    /// Adds the routes for operators. Off where they have an address of their own.
    pub admin: bool,
    /// The hosts that requests may name.
    pub hosts: AllowedHosts,
    /// The limits of one client.
    pub clients: ClientLimits,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            mock_credentials: HashMap::new(),
            admin_token: None,
            auth: ApiAuth::default(),
            request_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(60),
            draining: CancellationToken::new(),
            metrics: true,
            admin: true,
            hosts: AllowedHosts::default(),
            clients: ClientLimits::default(),
        }
    }
}

/// State that handlers share.
// Routes clone it several times for a request. Without the `Arc` each clone of the token takes a lock that all share.
#[derive(Clone)]
struct ApiState(Arc<Shared>);

struct Shared {
    app: App,
    mock_credentials: MockCredentials,
    admin_token: Option<AdminToken>,
    auth: ApiAuth,
    draining: Draining,
}

/// Cancelled when the process is about to stop.
#[derive(Clone)]
struct Draining(CancellationToken);

impl ApiState {
    fn new(app: App, settings: &ApiSettings) -> Self {
        Self(Arc::new(Shared {
            app,
            mock_credentials: MockCredentials::new(&settings.mock_credentials),
            admin_token: settings.admin_token.as_ref().map(AdminToken::new),
            auth: settings.auth,
            draining: Draining(settings.draining.clone()),
        }))
    }
}

impl Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl FromRef<ApiState> for App {
    fn from_ref(state: &ApiState) -> Self {
        state.app.clone()
    }
}

impl FromRef<ApiState> for Draining {
    fn from_ref(state: &ApiState) -> Self {
        state.draining.clone()
    }
}

/// The whole API over these operations.
pub fn router(app: App, settings: ApiSettings) -> Router {
    let state = ApiState::new(app, &settings);
    let admin = if settings.admin {
        routes::admin()
    } else {
        OpenApiRouter::new()
    };
    let metrics = if settings.metrics {
        routes::metrics()
    } else {
        OpenApiRouter::new()
    };
    let (routes, openapi) = routes::all().merge(admin).merge(metrics).split_for_parts();
    // Once: it does not change while the process runs.
    let document = openapi::complete(openapi);
    let routes = gated(routes, &document, &state);
    let document = openapi::text(&document);
    measured(routes.merge(docs::routes(document)), state, &settings)
}

/// The routes for operators at an address of their own, with `/healthz` and `/readyz`.
pub fn admin_router(app: App, settings: ApiSettings) -> Router {
    let state = ApiState::new(app, &settings);
    let routes = routes::admin().merge(routes::health());
    let (routes, openapi) = routes.split_for_parts();
    measured(gated(routes, &openapi, &state), state, &settings)
}

/// Lets in whom the routes' description lets in.
fn gated(routes: Router<ApiState>, document: &OpenApi, state: &ApiState) -> Router<ApiState> {
    let gate = Gate {
        state: state.clone(),
        declared: Arc::new(Declared::of(document)),
    };
    // `route_layer`: nobody is asked for a key where no route matches.
    routes.route_layer(middleware::from_fn_with_state(gate, access::enter))
}

/// Adds what holds for every route, and counts the requests.
fn measured(routes: Router<ApiState>, state: ApiState, settings: &ApiSettings) -> Router {
    let app = state.app.clone();
    guarded(routes, settings, Some(app.clone()))
        // Outermost, so that what the layers below refuse is counted as well.
        .layer(middleware::from_fn_with_state(app, measure::measure))
        .with_state(state)
}

/// The routes that every process may serve at an address of its own: `/metrics`, `/healthz` and `/readyz`.
/// Once `draining` is cancelled, it is not ready any more.
pub fn metrics_router(app: App, hosts: AllowedHosts, draining: CancellationToken) -> Router {
    let settings = ApiSettings {
        draining,
        hosts,
        ..ApiSettings::default()
    };
    let routes = routes::health().merge(routes::metrics());
    // Not `guarded`: a scrape every few seconds would fill the log.
    limited(routes.into(), &settings, None).with_state(ApiState::new(app, &settings))
}

/// The API's description in OpenAPI 3.1, as `GET /openapi.json` serves it.
pub fn openapi() -> String {
    let routes = routes::all()
        .merge(routes::admin())
        .merge(routes::metrics());
    openapi::text(&openapi::complete(routes.into_openapi()))
}

/// Adds what holds for every route: JSON for unknown routes and methods, time limits, caught panics, request ids.
fn guarded<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    settings: &ApiSettings,
    app: Option<App>,
) -> Router<S> {
    limited(routes, settings, app)
        // Inside of `drain`: the latency in the log is the answer's, not that of a client that still sends.
        .layer(middleware::from_fn(observe::observe))
        .layer(middleware::from_fn_with_state(
            body::RequestTimeout(settings.request_timeout),
            drain::drain,
        ))
        .layer(axum::Extension(body::RequestTimeout(
            settings.request_timeout,
        )))
}

/// The same without request ids and a line in the log.
fn limited<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    settings: &ApiSettings,
    app: Option<App>,
) -> Router<S> {
    routes
        // First: a layer of axum wraps only what is there when it is added.
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(
            settings.answer_timeout,
            // Inside of the layer for panics: one that comes while the time runs is answered too.
            in_time,
        ))
        .layer(CatchPanicLayer::custom(panicked))
        // Outermost of these: nothing at all is done for what comes from the wrong place.
        .layer(middleware::from_fn_with_state(
            Arc::new(Door::new(settings, app)),
            door::guard,
        ))
}

/// Returns true for what must be answered however busy the host is: its supervisor would end it otherwise.
fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// A method that a route does not have. axum adds `Allow`, which is all that OPTIONS asks for.
async fn other_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        ApiError::MethodNotAllowed.into_response()
    }
}

async fn in_time(State(most): State<Duration>, request: Request, next: Next) -> Response {
    // The handler is dropped where it waits. What it committed stays, and a repeat of the request finds it.
    match tokio::time::timeout(most, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::AnswerTimedOut.into_response(),
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    // `panic!` with arguments carries a `String`, without any a `&str`.
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::Panicked(message.to_owned()).into_response()
}

#[cfg(test)]
mod tests;
