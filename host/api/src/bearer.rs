//! The bearer token of the admin API.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{ApiState, error::ApiError};

/// The token of the admin API (RFC 6750). Only the token's digest is kept: comparing those takes the same time however
/// much of a guess is right, and however long it is.
#[derive(Clone, Copy)]
pub(crate) struct AdminToken([u8; 32]);

impl AdminToken {
    pub(crate) fn new(token: &SecretString) -> Self {
        Self(Sha256::digest(token.expose_secret()).into())
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let given: [u8; 32] =
            Sha256::digest(bearer(headers).ok_or(ApiError::AdminUnauthorized)?).into();
        // Not `==`, which stops at the first difference and so tells how much of a guess is right.
        if bool::from(given.ct_eq(&self.0)) {
            Ok(())
        } else {
            Err(ApiError::AdminUnauthorized)
        }
    }
}

/// The token of the one `Authorization: Bearer` header; the scheme's case does not matter.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    // Of two headers a proxy in front may have checked the other one.
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Middleware that lets only requests with the admin token through; without a token set, none.
pub(crate) async fn require_admin(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // Before the handler reads anything: a stranger's upload of 33 MiB is never held in memory.
    state
        .admin_token
        .ok_or(ApiError::AdminDisabled)?
        .check(request.headers())?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(authorization: &[&str]) -> Result<(), ApiError> {
        let values = authorization
            .iter()
            .map(|value| HeaderValue::from_str(value).expect("a header value"));
        let headers = values.map(|value| (header::AUTHORIZATION, value)).collect();
        AdminToken::new(&"0123456789abcdef".into()).check(&headers)
    }

    #[test]
    fn only_the_token_passes() {
        for right in [
            "Bearer 0123456789abcdef",
            "bearer 0123456789abcdef",
            "BEARER   0123456789abcdef ",
        ] {
            assert!(check(&[right]).is_ok(), "{right}");
        }
        let right = "Bearer 0123456789abcdef";
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdef0"],
            &["Bearer 0123456789ABCDEF"],
            &["Basic 0123456789abcdef"],
            &["0123456789abcdef"],
            &[right, right],
        ] {
            assert!(
                matches!(check(wrong), Err(ApiError::AdminUnauthorized)),
                "{wrong:?}"
            );
        }
    }
}
