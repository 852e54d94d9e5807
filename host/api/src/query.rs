//! Query strings, read as strictly as bodies.

use axum::{extract::FromRequestParts, http::request::Parts};
use percent_encoding::percent_decode_str;

use crate::{
    error::ApiError,
    fields::{Fields, Given},
    request::FromFields,
    tenancy::caller,
};

/// A request from the parameters of the query string, as strict as a body: each at most once, in UTF-8.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Sync, T: FromFields> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let fields = parse(parts.uri.query().unwrap_or_default());
        T::from_fields(fields.of_caller(&caller(&parts.extensions)?)?).map(Self)
    }
}

fn parse(query: &str) -> Fields {
    let mut fields = Fields::default();
    // An empty query makes one field without a name, for which nobody asks.
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // No field of ours has a name that is not UTF-8, and unknown fields are ignored.
        if let Ok(name) = decode(name) {
            fields.add(name, decode(value).map_or_else(Given::Wrong, Given::Text));
        }
    }
    fields
}

fn decode(text: &str) -> Result<String, &'static str> {
    // Before decoding: afterwards an encoded plus could not be told from a blank.
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| "must be UTF-8")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_domain::OrganizationId;

    use super::*;
    use crate::request::Field;

    fn organization(query: &str) -> Result<String, String> {
        let mut fields = parse(query);
        OrganizationId::take(&mut fields, "organizationId")
            .map(|id| id.to_string())
            .ok_or_else(|| {
                let ApiError::Validation(mut details) = fields.refusal() else {
                    panic!("another refusal")
                };
                details.remove(0).message
            })
    }

    #[test]
    fn a_parameter_is_given_once_and_in_utf8() {
        for (query, expected) in [
            ("organizationId=org-1", Ok("org-1")),
            ("x=1&x=2&%FF=3&organizationId=a%20b+c%2B", Ok("a b c+")),
            ("organizationId=100%", Ok("100%")),
            ("organizationId=%C3%BC", Ok("ü")),
            ("", Err("is required")),
            ("organizationid=org-1", Err("is required")),
            ("organizationId", Err("must not be empty")),
            ("organizationId=", Err("must not be empty")),
            ("organizationId=%00", Err("must not contain NUL")),
            ("organizationId=%FF", Err("must be UTF-8")),
            (
                "organizationId=a&organizationId=a",
                Err("must be given once"),
            ),
            (
                "organizationId=a&organization%49d=b",
                Err("must be given once"),
            ),
        ] {
            assert_eq!(
                organization(query),
                expected.map(Into::into).map_err(Into::into),
                "{query}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in ".{0,60}") {
            let _ = organization(&query);
        }
    }
}
