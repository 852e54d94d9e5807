//! The parts of the OpenAPI description that all routes share: general text, tags, common errors, security.

use std::collections::BTreeMap;

use utoipa::openapi::{
    Components, Content, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
    header::HeaderBuilder,
    info::{InfoBuilder, LicenseBuilder},
    path::{Operation, Parameter, ParameterIn, PathItem},
    request_body::RequestBody,
    schema::{ObjectBuilder, Schema, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};

use crate::{
    access::{SCHEME, scopes_of},
    is_probe,
    once::IdempotencyKey,
};

const ABOUT: &str = "\
Register stores, import their orders, and receive webhooks about their synchronisation.

Bodies are JSON, and so is every refusal: `{\"error\", \"message\"?, \"details\"?}`. `error` is stable, the rest is for
people. Unknown fields are ignored, and `null` in a body counts as left out. Besides what each operation lists, an unknown
route answers 404 `Not found`, and a method that a route does not have 405 `Method not allowed` with `Allow`. `HEAD` works
wherever `GET` does; `OPTIONS` lists the methods. A host on loopback, or one that was told its names (`ALLOWED_HOSTS`),
answers 421 `Misdirected request` where `Host` names another. No answer has headers of CORS.

Every answer carries `x-request-id`: the request's own, if it has one, else a new one. A 503 has `Retry-After` and is safe
to repeat: every operation is idempotent, by itself or with an `Idempotency-Key`.

Where the host asks for keys (`API_AUTH=required`), every operation with a scope wants `Authorization: Bearer wharf_...` with \
a key that has it; one of several is enough. A key of an organization may leave `organizationId` out. With \
`API_AUTH=off` only operators' operations ask for a key: those with `operator`, `plugins:*` or `keys:*`.";

const TAGS: [(&str, &str); 8] = [
    (
        "Stores",
        "Sellers' stores at marketplaces, and how their synchronisation is going",
    ),
    (
        "Orders",
        "Importing orders through the marketplaces' adapters",
    ),
    ("Webhooks", "Endpoints that are told about sync runs"),
    (
        "Deliveries",
        "Deliveries to endpoints, and sending again what failed or was missed",
    ),
    (
        "Mock marketplace",
        "The marketplaces' adapters asked directly, for trying things out",
    ),
    ("Keys", "Short-lived tokens for browsers"),
    (
        "Admin",
        "Plugins, keys, and webhooks and dead letters of all organizations, for operators",
    ),
    ("Health", "Liveness, readiness and metrics"),
];

/// Errors that routes share: the name of the component, the status and the description.
const SHARED: [(&str, &str, &str); 10] = [
    (
        "Invalid",
        "400",
        "`Validation error`: `details` names every field that is missing or wrong, or `message` says why \
        the body cannot be read",
    ),
    (
        "Unauthorized",
        "401",
        "`Unauthorized`: no key, or one that is unknown, revoked or expired",
    ),
    (
        "KeyForbidden",
        "403",
        "`Forbidden`: the key lacks the scope, which `details` names, or is another organization's. `Webhook refused`, \
        `Origin refused`: as where no key is asked for",
    ),
    (
        "Forbidden",
        "403",
        "`Webhook refused`: the request carries a webhook's signature (`webhook-signature` or `x-webhook-signature`). \
        Webhooks must not be sent to this API: they would make more of them. `Origin refused`: a web page of another \
        origin (by `Origin` or `Sec-Fetch-Site`) must not change anything",
    ),
    (
        "RequestTimeout",
        "408",
        "`Request timeout`: the body took too long to arrive",
    ),
    (
        "PayloadTooLarge",
        "413",
        "`Payload too large`: at most 1 MiB",
    ),
    (
        "UnsupportedMediaType",
        "415",
        "`Unsupported media type`: use application/json",
    ),
    (
        "TooManyRequests",
        "429",
        "`Too many requests`: this client asks too often, or has too many requests in work",
    ),
    (
        "InternalError",
        "500",
        "`Internal error`: a defect, whose cause is in the log",
    ),
    (
        "Unavailable",
        "503",
        "`Service unavailable`: the database, or something else that the request needs, cannot be reached at the moment",
    ),
];

/// Completes the routes' own descriptions with what they share.
pub(crate) fn complete(mut api: OpenApi) -> OpenApi {
    let licence = LicenseBuilder::new()
        .name("Apache-2.0 OR MIT")
        .identifier(Some("Apache-2.0 OR MIT"))
        .build();
    api.info = InfoBuilder::new()
        .title("Wharf")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(licence))
        .build();
    api.tags = Some(
        TAGS.map(|(name, about)| {
            TagBuilder::new()
                .name(name)
                .description(Some(about))
                .build()
        })
        .to_vec(),
    );
    let components = api.components.get_or_insert_with(Components::new);
    for (name, status, words) in SHARED {
        components
            .responses
            .insert(name.to_owned(), refusal(status, words).into());
    }
    components.add_security_scheme(
        "mock",
        scheme(
            HttpAuthScheme::Basic,
            "`MOCK_<MARKETPLACE>_USER` and `_PASS`",
        ),
    );
    components.add_security_scheme(
        SCHEME,
        scheme(
            HttpAuthScheme::Bearer,
            "An API key, `wharf_...`, or `WHARF_ADMIN_TOKEN`",
        ),
    );
    let schemas = components.schemas.clone();
    for (path, item) in &mut api.paths.paths {
        for operation in operations(item) {
            let is_exempt = is_probe(path) || path == "/metrics";
            // Keys are checked by a middleware, of which utoipa sees nothing.
            refuse(operation, is_exempt);
            refuse_keys(operation);
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                body.required = Some(if is_optional(body, &schemas) {
                    Required::False
                } else {
                    Required::True
                });
            }
        }
    }
    api
}

/// A request without a body counts as an empty object, which is enough where no field is required.
fn is_optional(body: &RequestBody, schemas: &BTreeMap<String, RefOr<Schema>>) -> bool {
    body.content.values().any(|content| {
        let RefOr::T(Content { schema: Some(RefOr::Ref(reference)), .. }) = content else { return false };
        let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
        matches!(schemas.get(name), Some(RefOr::T(Schema::Object(object))) if object.required.is_empty())
    })
}

fn scheme(kind: HttpAuthScheme, about: &str) -> SecurityScheme {
    SecurityScheme::Http(
        HttpBuilder::new()
            .scheme(kind)
            .description(Some(about))
            .build(),
    )
}

fn refusal(status: &str, words: &str) -> Response {
    let body = Content::new(Some(Ref::from_schema_name("Refusal")));
    let response = ResponseBuilder::new()
        .description(words)
        .content("application/json", body);
    let header = |kind, about: &str| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        HeaderBuilder::new()
            .schema(Some(schema))
            .description(Some(about))
            .build()
    };
    match status {
        "401" => response
            .header("WWW-Authenticate", header(Type::String, "`Bearer`"))
            .build(),
        "429" | "503" => response
            .header("Retry-After", header(Type::Integer, "Seconds"))
            .build(),
        _ => response.build(),
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Adds the shared errors that apply to an operation and that it does not describe itself.
fn refuse(operation: &mut Operation, is_exempt: bool) {
    let asks_for_key = !scopes_of(operation).is_empty();
    let has_query_or_key = operation
        .parameters
        .iter()
        .flatten()
        .any(|parameter| match parameter {
            RefOr::T(parameter) => {
                parameter.parameter_in == ParameterIn::Query || IdempotencyKey::is(parameter)
            }
            RefOr::Ref(_) => false,
        });
    let has_body = operation.request_body.is_some();
    for (name, status, _) in SHARED {
        let holds = match status {
            "400" => has_body || has_query_or_key,
            "401" => asks_for_key,
            "403" => asks_for_key == (name == "KeyForbidden"),
            "408" | "413" | "415" => has_body,
            "429" => !is_exempt,
            _ => true,
        };
        if holds {
            let shared = || Ref::from_response_name(name).into();
            operation
                .responses
                .responses
                .entry(status.to_owned())
                // What an operation says of a status itself is more exact, and stays.
                .or_insert_with(shared);
        }
    }
}

/// What a key adds to the refusals of an operation that takes one.
fn refuse_keys(operation: &mut Operation) {
    const REUSED: &str = "`Idempotency-Key reused`: it was given to another request";
    const IN_WORK: &str = "`Request in progress`: one with this key is being carried out. `Answer is unreadable`: one \
        was, and the host's key that its answer was stored with has left";
    let mut parameters = operation.parameters.iter().flatten();
    let takes_key =
        |one: &RefOr<Parameter>| matches!(one, RefOr::T(one) if IdempotencyKey::is(one));
    if !parameters.any(takes_key) {
        return;
    }
    let responses = &mut operation.responses.responses;
    match responses.get_mut("422") {
        Some(RefOr::T(response)) => {
            response.description = format!("{}. {REUSED}", response.description);
        }
        _ => drop(responses.insert("422".into(), refusal("422", REUSED).into())),
    }
    match responses.get_mut("409") {
        Some(RefOr::T(response)) => {
            response.description = format!("{}. {IN_WORK}", response.description);
        }
        _ => {
            responses.insert("409".into(), refusal("409", IN_WORK).into());
        }
    }
}

/// The document as it is served and checked in.
pub(crate) fn text(api: &OpenApi) -> String {
    api.to_pretty_json()
        .expect("a description is made of strings and numbers")
        + "\n"
}
