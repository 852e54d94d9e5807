//! Credentials of the mock marketplaces, from the environment.

use std::collections::HashMap;

use secrecy::SecretString;

use crate::{secret, settings::SettingError};

/// User and password by marketplace, from `MOCK_<MARKETPLACE>_USER` and `MOCK_<MARKETPLACE>_PASS`, or the file that
/// `MOCK_<MARKETPLACE>_PASS_FILE` names. A pair that is not whole counts as not set.
///
/// # Errors
/// A user with a colon: HTTP could not tell where the password begins. A file that cannot be read.
pub(crate) fn from_environment() -> Result<HashMap<String, (String, SecretString)>, SettingError> {
    // `vars` would panic at any variable that is not UTF-8, whoever it is meant for.
    let variables = std::env::vars_os();
    from_variables(
        variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }),
    )
}

fn from_variables(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<HashMap<String, (String, SecretString)>, SettingError> {
    let set: HashMap<String, String> = variables
        .filter(|(name, value)| name.starts_with("MOCK_") && !value.is_empty())
        .collect();
    let mut credentials = HashMap::new();
    for (name, user) in &set {
        let Some(marketplace) = name
            .strip_prefix("MOCK_")
            .and_then(|rest| rest.strip_suffix("_USER"))
        else {
            continue;
        };
        // Refused at the start, even without a password: later each of its requests would only look wrong.
        if user.contains(':') {
            return Err(SettingError::new(name, "must not contain a colon"));
        }
        let variable = |name: &str| set.get(name).map(Into::into);
        if let Some(password) = secret::read(&format!("MOCK_{marketplace}_PASS"), &variable)? {
            // The name of a variable cannot hold the dash that a marketplace may have.
            let marketplace = marketplace.to_ascii_lowercase().replace('_', "-");
            credentials.insert(marketplace, (user.clone(), password));
        }
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(
        variables: &[(&str, &str)],
    ) -> Result<HashMap<String, (String, SecretString)>, SettingError> {
        from_variables(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn pairs_are_found_by_marketplace() {
        let credentials = read(&[
            ("MOCK_ETSY_USER", "etsy_user"),
            ("MOCK_ETSY_PASS", "a:b"),
            ("MOCK_MY_SHOP_USER", "u"),
            ("MOCK_MY_SHOP_PASS", "p"),
            ("MOCK_AMAZON_USER", "half"),
            ("MOCK_EMPTY_USER", "u"),
            ("MOCK_EMPTY_PASS", ""),
            ("PATH", "/bin"),
        ])
        .expect("credentials");
        assert_eq!(credentials.len(), 2);
        assert_eq!(credentials["etsy"].0, "etsy_user");
        assert_eq!(credentials["etsy"].1.expose_secret(), "a:b");
        assert_eq!(credentials["my-shop"].0, "u");
    }

    #[test]
    fn a_user_with_a_colon_is_refused_by_name() {
        let refusal =
            read(&[("MOCK_ETSY_USER", "a:b"), ("MOCK_ETSY_PASS", "p")]).expect_err("it is wrong");
        assert!(refusal.to_string().contains("MOCK_ETSY_USER"));
    }
}
