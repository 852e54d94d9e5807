//! The one place where a request meets its caller's organization: before any field of it is read.

use axum::http::Extensions;
use serde_json::Value;
use wharf_app::Caller;

use crate::{
    error::ApiError,
    fields::{Fields, Given},
};

/// The field that names the organization, in every request that has one.
const ORGANIZATION: &str = "organizationId";

/// Whoever sent the request.
///
/// # Errors
/// If the route was not guarded: a defect, and nothing is done then.
pub(crate) fn caller(extensions: &Extensions) -> Result<Caller, ApiError> {
    extensions
        .get()
        .cloned()
        .ok_or_else(|| ApiError::Panicked("a route without a guard".into()))
}

impl Fields {
    /// Fills the caller's organization in where the field is left out.
    ///
    /// # Errors
    /// If it names another one, whether the request has such a field or not.
    pub(crate) fn of_caller(mut self, caller: &Caller) -> Result<Self, ApiError> {
        let Some(own) = caller.organization() else {
            return Ok(self);
        };
        match self.given(ORGANIZATION) {
            None => self.set(ORGANIZATION, Given::Text(own.as_str().into())),
            Some(Given::Json(Value::String(named)) | Given::Text(named))
                if named != own.as_str() =>
            {
                return Err(ApiError::OtherOrganization);
            }
            // A number, or one that was given twice: refused as a wrong field.
            Some(_) => {}
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wharf_domain::OrganizationId;

    use super::*;
    use crate::request::Field;

    /// The organization that is read of a request, as a caller of `own` sends it.
    fn read(own: &Caller, request: Value) -> Result<Option<String>, ApiError> {
        let mut fields = Fields::of(request).of_caller(own)?;
        Ok(OrganizationId::take(&mut fields, ORGANIZATION).map(|id| id.to_string()))
    }

    #[test]
    fn an_organization_is_filled_in_and_another_one_refused() {
        let own = Caller::of_organization(OrganizationId::parse("mine").expect("a name"));
        let mine = Some("mine".to_owned());
        for request in [
            json!({}),
            json!({"organizationId": null}),
            json!({"organizationId": "mine"}),
        ] {
            assert_eq!(read(&own, request).ok(), Some(mine.clone()));
        }
        let other = read(&own, json!({"organizationId": "theirs"}));
        assert!(matches!(other, Err(ApiError::OtherOrganization)));
        for wrong in [json!(""), json!("MINE"), json!(" mine")] {
            let other = read(&own, json!({"organizationId": wrong}));
            assert!(matches!(other, Err(ApiError::OtherOrganization)));
        }
        assert_eq!(
            read(&own, json!({"organizationId": 5})).ok(),
            Some(None),
            "a wrong field"
        );
    }

    #[test]
    fn others_name_it_themselves() {
        for caller in [Caller::anyone(), Caller::admin()] {
            assert_eq!(read(&caller, json!({})).ok(), Some(None));
            let named = read(&caller, json!({"organizationId": "theirs"}));
            assert_eq!(named.ok(), Some(Some("theirs".into())));
        }
        assert!(caller(&Extensions::new()).is_err(), "no guard, no entrance");
    }
}
