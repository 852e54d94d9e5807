//! `Idempotency-Key`: a request that its client may repeat, and that is carried out once.

use axum::{
    extract::{FromRequest, FromRequestParts, MatchedPath, Request},
    http::{Extensions, HeaderMap, HeaderName, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{
    IntoParams,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Type},
    },
};
use wharf_app::{App, Beginning, KeyedRequest, Once};
use wharf_domain::OrganizationId;

use crate::{
    body,
    error::{ApiError, Detail},
    request::FromFields,
    tenancy::caller,
};

/// The header of the IETF's draft, which has the name from what is in use.
const NAME: &str = "Idempotency-Key";
/// Tells that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The most characters of a key.
const MAX: usize = 255;

/// A request from the JSON object in the body, as [`body::JsonBody`] reads it, with the key that its client gave it.
pub(crate) struct Keyed<T> {
    pub(crate) request: T,
    pub(crate) key: Key,
}

/// A client's key, and what it was given to; `None` without one.
pub(crate) struct Key(Option<Named>);

struct Named {
    key: String,
    route: String,
    /// Path and body: another request under the same key is refused.
    content: String,
}

impl<S: Sync, T: FromFields> FromRequest<S> for Keyed<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let mut key = Key::of(request.headers(), request.uri(), request.extensions())?;
        let caller = caller(request.extensions())?;
        let bytes = body::in_time(request).await?;
        let request = T::from_fields(body::parse(&bytes)?.of_caller(&caller)?)?;
        if let Key(Some(named)) = &mut key {
            named.content = format!("{}\n{}", named.content, String::from_utf8_lossy(&bytes));
        }
        Ok(Self { request, key })
    }
}

/// The key of a request without a body.
impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::of(&parts.headers, &parts.uri, &parts.extensions)
    }
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let refuse = |message: &str| {
        Err(ApiError::Validation(vec![Detail {
            path: NAME,
            message: message.into(),
        }]))
    };
    let mut given = headers.get_all(NAME).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    if given.next().is_some() {
        return refuse("must be given once");
    }
    match value.to_str() {
        Ok(key)
            if (1..=MAX).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(Some(key.into()))
        }
        _ => refuse("must be 1 to 255 characters of visible ASCII"),
    }
}

impl Key {
    fn of(headers: &HeaderMap, uri: &Uri, extensions: &Extensions) -> Result<Self, ApiError> {
        let path = uri.path().to_owned();
        let route = extensions.get::<MatchedPath>();
        // Every handler has a route; without one all would share their keys.
        let route = route.map_or_else(|| path.clone(), |route| route.as_str().to_owned());
        let named = key_of(headers)?.map(|key| Named {
            key,
            route,
            content: path,
        });
        Ok(Self(named))
    }

    /// Carries a request out, or gives the answer that it got before. `view` makes the answer's body.
    pub(crate) async fn once<T, V, Refused, Work>(
        self,
        app: &App,
        organization: &OrganizationId,
        status: StatusCode,
        view: impl Fn(&T) -> V + Send + Sync + 'static,
        work: impl FnOnce(Once<T>) -> Work,
    ) -> Result<Response, ApiError>
    where
        V: Serialize,
        Refused: Into<ApiError>,
        Work: Future<Output = Result<T, Refused>>,
    {
        let request = self.0.map(
            |Named {
                 key,
                 route,
                 content,
             }| { KeyedRequest::new(organization.clone(), &route, &key, &content) },
        );
        let render = move |outcome: &T| {
            serde_json::to_vec(&view(outcome)).expect("an answer is made of texts and numbers")
        };
        let once = match app.begin_once(request, render).await? {
            Beginning::New(once) => once,
            Beginning::Answered(body) => {
                return Ok(([(REPLAYED, "true")], json(status, body)).into_response());
            }
        };
        match work(once.clone()).await {
            Ok(outcome) => Ok(json(status, once.render(&outcome))),
            Err(error) => {
                // Before the refusal is told: its client may try again at once.
                once.give_up().await;
                Err(error.into())
            }
        }
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The header as a description has it.
pub(crate) struct IdempotencyKey;

impl IdempotencyKey {
    /// True of the header's description.
    pub(crate) fn is(parameter: &Parameter) -> bool {
        parameter.name == NAME
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(MAX))
            .pattern(Some("^[!-~]+$"));
        let about = "Makes the request safe to repeat: under one key it is carried out once, and a repeat within 24 \
            hours gets the same answer, with `Idempotent-Replayed: true`. Keys belong to the route and the organization. \
            What is refused may be tried again under its key";
        let parameter = ParameterBuilder::new()
            .name(NAME)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(about))
            .schema(Some(schema))
            .build();
        vec![parameter]
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_one_line_of_visible_ascii() {
        let read = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_bytes(value).expect("a value");
                headers.append("idempotency-key", value);
            }
            key_of(&headers).ok()
        };
        let long = [b'k'; MAX + 1];
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&[b"\"8e03\""]), Some(Some("\"8e03\"".into())));
        assert_eq!(read(&[&long[..MAX]]).map(|key| key.is_some()), Some(true));
        for bad in [
            &[&b""[..]][..],
            &[&long],
            &["ä".as_bytes()],
            &[b"a b"],
            &[b"a", b"a"],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
