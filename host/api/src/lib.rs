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
mod frame;
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

use std::{collections::HashMap, ops::Deref, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::FromRef,
    http::{Method, StatusCode},
    middleware,
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use wharf_app::App;

use crate::{
    access::{AdminToken, Declared, Gate},
    basic_auth::MockCredentials,
    error::ApiError,
    frame::Frame,
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
    whole(routes.merge(docs::routes(document)), state, &settings)
}

/// The routes for operators at an address of their own, with `/healthz` and `/readyz`.
pub fn admin_router(app: App, settings: ApiSettings) -> Router {
    let state = ApiState::new(app, &settings);
    let routes = routes::admin().merge(routes::health());
    let (routes, openapi) = routes.split_for_parts();
    whole(gated(routes, &openapi, &state), state, &settings)
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

/// Adds what holds for every route.
fn whole(routes: Router<ApiState>, state: ApiState, settings: &ApiSettings) -> Router {
    let frame = Frame::new(settings, Some(state.clone()));
    with_refusals(routes)
        .layer(middleware::from_fn_with_state(frame, frame::whole))
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
    let frame = Frame::new(&settings, None);
    with_refusals(routes.into())
        .layer(middleware::from_fn_with_state(frame, frame::bounds))
        .with_state(ApiState::new(app, &settings))
}

/// The API's description in OpenAPI 3.1, as `GET /openapi.json` serves it.
pub fn openapi() -> String {
    let routes = routes::all()
        .merge(routes::admin())
        .merge(routes::metrics());
    openapi::text(&openapi::complete(routes.into_openapi()))
}

/// Adds JSON for unknown routes and methods. Before the layer of all: a layer of axum wraps only what is there when it is
/// added.
fn with_refusals<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(other_method)
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

#[cfg(test)]
mod tests;
