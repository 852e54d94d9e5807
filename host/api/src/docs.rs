//! The API's description, `/openapi.json`, and a page to try it, `/docs`. The page's files are part of the program.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    http::{HeaderName, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use utoipa_swagger_ui::Config;

use crate::error::ApiError;

/// The page asks this host and nobody else, whatever it is told.
// `unsafe-inline` for styles alone: Swagger UI sets them on its elements.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JSON: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

/// Both, around a document that is ready.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(document: String) -> Router<S> {
    let document: Arc<str> = document.into();
    let page = Arc::new(
        Config::from("/openapi.json")
            .use_base_layout()
            // By default the page sends the document's address to a validator on the internet.
            .validator_url("none")
            .display_request_duration(true)
            .try_it_out_enabled(true)
            .default_models_expand_depth(0),
    );
    let file = move |path: String| {
        let page = page.clone();
        async move { file(&path, page) }
    };
    let index = file.clone();
    Router::new()
        .route(
            "/openapi.json",
            get(async move || (JSON, document.to_string())),
        )
        // The page names its files relatively: without the slash they would be looked for one level up.
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(move || index(String::new())))
        .route(
            "/docs/{*file}",
            get(
                async move |path: Result<Path<String>, PathRejection>| match path {
                    Ok(Path(path)) => file(path).await,
                    Err(_) => Err(ApiError::NotFound),
                },
            ),
        )
}

fn file(path: &str, page: Arc<Config<'static>>) -> Result<Response, ApiError> {
    let found = utoipa_swagger_ui::serve(path, page)
        // The files are part of the program: an error here is a defect, and is logged as one.
        .map_err(|error| ApiError::Panicked(error.to_string()))?;
    let file = found.ok_or(ApiError::NotFound)?;
    let headers = [
        (header::CONTENT_TYPE, file.content_type),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    let mut response = (headers, file.bytes.into_owned()).into_response();
    // The field is spelled so. Files are stored packed and sent as they are.
    if file.gzpipped {
        response.headers_mut().insert(
            header::CONTENT_ENCODING,
            header::HeaderValue::from_static("gzip"),
        );
    }
    Ok(response)
}
