//! Basic authentication of the mock marketplaces.

use std::collections::HashMap;

use axum::http::{HeaderMap, header};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::ApiError;

/// Credentials of each mock marketplace (RFC 7617). Only digests are kept: comparing those takes the same time however
/// much of a guess is right, and however long it is.
pub(crate) struct MockCredentials(HashMap<String, [u8; 32]>);

/// Some clients leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl MockCredentials {
    /// From user and password by marketplace.
    pub(crate) fn new(by_marketplace: &HashMap<String, (String, SecretString)>) -> Self {
        let digest = |(user, password): &(String, SecretString)| {
            Sha256::new()
                .chain_update(user)
                .chain_update(":")
                .chain_update(password.expose_secret())
                .finalize()
                .into()
        };
        Self(
            by_marketplace
                .iter()
                .map(|(name, pair)| (name.clone(), digest(pair)))
                .collect(),
        )
    }

    /// Refuses a marketplace that has no credentials, and a request that does not carry them.
    pub(crate) fn check(&self, marketplace: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let expected = self
            .0
            .get(marketplace)
            .ok_or(ApiError::CredentialsNotConfigured)?;
        let given: [u8; 32] =
            Sha256::digest(basic_credentials(headers).ok_or(ApiError::Unauthorized)?).into();
        // Not `==`, which stops at the first difference and so tells how much of a guess is right.
        if bool::from(given.ct_eq(expected)) {
            Ok(())
        } else {
            Err(ApiError::Unauthorized)
        }
    }
}

/// `user:password` of the one `Authorization: Basic` header; the scheme's case does not matter. The user holds no
/// colon, so comparing the whole is comparing both parts, with the password being everything after the first colon.
fn basic_credentials(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    // Of two headers a proxy in front may have checked the other one.
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("basic")
        // What is no base64 is answered as a wrong password is.
        .then(|| BASE64.decode(encoded.trim()).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(user: &str, password: &str, authorization: &[&str]) -> Result<(), ApiError> {
        let pair = (user.to_owned(), SecretString::from(password));
        let credentials = MockCredentials::new(&HashMap::from([("etsy".to_owned(), pair)]));
        let values = authorization
            .iter()
            .map(|value| HeaderValue::from_str(value).expect("a header value"));
        credentials.check(
            "etsy",
            &values.map(|value| (header::AUTHORIZATION, value)).collect(),
        )
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", BASE64.encode(pair))
    }

    #[test]
    fn the_right_pair_passes_in_every_spelling() {
        let right = basic("etsy_user:etsy_pass");
        for spelling in [
            right.clone(),
            right.replace("Basic", "bAsIc"),
            right.replace("Basic ", "Basic   "),
        ] {
            assert!(
                check("etsy_user", "etsy_pass", &[&spelling]).is_ok(),
                "{spelling}"
            );
        }
        assert!(check("etsy_user", "etsy_pass", &[right.trim_end_matches('=')]).is_ok());
        assert!(check("u", "a:b:c", &[&basic("u:a:b:c")]).is_ok());
        assert!(check("u", "pässwörd", &[&basic("u:pässwörd")]).is_ok());
    }

    #[test]
    fn anything_else_does_not() {
        for pair in [
            "",
            ":",
            "etsy_user",
            "etsy_user:",
            "etsy_user:etsy_pas",
            "etsy_use:retsy_pass",
            "x:etsy_pass",
        ] {
            assert!(
                matches!(
                    check("etsy_user", "etsy_pass", &[&basic(pair)]),
                    Err(ApiError::Unauthorized)
                ),
                "{pair}"
            );
        }
        let right = basic("u:p");
        for headers in [
            &[][..],
            &["Basic"],
            &["Basic ???"],
            &["Bearer dTpw"],
            &["dTpw"],
            &[&right, &right],
        ] {
            assert!(
                matches!(check("u", "p", headers), Err(ApiError::Unauthorized)),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn a_marketplace_without_credentials_is_not_a_client_mistake() {
        let none = MockCredentials::new(&HashMap::new());
        assert!(matches!(
            none.check("etsy", &HeaderMap::new()),
            Err(ApiError::CredentialsNotConfigured)
        ));
    }
}
