//! Who may call which route. Each route declares its scope in its description (`security(("key" = ["stores:read"]))`, or
//! `security(())` where nobody is asked), and the check is made of the same declaration: a route without one cannot be
//! served.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::Response,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::openapi::{
    OpenApi,
    path::{Operation, PathItem},
};
use wharf_app::{Caller, KeyRefusal};
use wharf_domain::{KeyScope, KeyText};

use crate::{ApiState, error::ApiError};

/// The name of the security scheme of keys.
pub(crate) const SCHEME: &str = "key";

/// Whether clients have to show a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiAuth {
    /// Whoever reaches the API may do all that clients may. Operators' routes ask for a key or the admin token all the same.
    #[default]
    Off,
    /// Every route but the public ones asks for a key that has its scope.
    Required,
}

/// The token of the admin API (RFC 6750). Only the token's digest is kept: comparing those takes the same time however
/// much of a guess is right, and however long it is.
#[derive(Clone, Copy)]
pub(crate) struct AdminToken([u8; 32]);

impl AdminToken {
    pub(crate) fn new(token: &SecretString) -> Self {
        Self(Sha256::digest(token.expose_secret()).into())
    }

    fn is(self, token: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(token).into();
        // Not `==`, which stops at the first difference and so tells how much of a guess is right.
        given.ct_eq(&self.0).into()
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

/// What an operation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Needs {
    /// Nothing, or something that its handler checks.
    Nothing,
    /// One of these scopes.
    OneOf(Vec<KeyScope>),
    /// It does not say: a defect, and nobody gets in.
    Undeclared,
}

impl Needs {
    fn of(operation: &Operation) -> Self {
        let said = serde_json::to_value(&operation.security).unwrap_or_default();
        let Some(alternatives) = said.as_array().filter(|all| !all.is_empty()) else {
            return Self::Undeclared;
        };
        let of_keys = alternatives.iter().filter_map(|one| one.get(SCHEME));
        let names: Vec<&Value> = of_keys.filter_map(Value::as_array).flatten().collect();
        let scopes: Option<Vec<KeyScope>> = names
            .iter()
            .map(|name| KeyScope::parse(name.as_str()?))
            .collect();
        match scopes {
            // A name that is no scope would otherwise shut the route in silence, or open it with the next change.
            None => Self::Undeclared,
            Some(scopes) if !scopes.is_empty() => Self::OneOf(scopes),
            Some(_) if alternatives.iter().any(|one| one.get(SCHEME).is_some()) => Self::Undeclared,
            Some(_) => Self::Nothing,
        }
    }
}

/// The scopes that an operation asks for, one of which is enough.
pub(crate) fn scopes_of(operation: &Operation) -> Vec<KeyScope> {
    match Needs::of(operation) {
        Needs::OneOf(scopes) => scopes,
        Needs::Nothing | Needs::Undeclared => Vec::new(),
    }
}

/// What each route asks for, by its path and method, out of the description of all.
pub(crate) struct Declared(HashMap<String, HashMap<Method, Needs>>);

impl Declared {
    pub(crate) fn of(api: &OpenApi) -> Self {
        let paths = api.paths.paths.iter();
        Self(
            paths
                .map(|(path, item)| (path.clone(), Self::of_path(item)))
                .collect(),
        )
    }

    fn of_path(item: &PathItem) -> HashMap<Method, Needs> {
        let methods = [
            (Method::GET, &item.get),
            (Method::PUT, &item.put),
            (Method::POST, &item.post),
            (Method::DELETE, &item.delete),
            (Method::PATCH, &item.patch),
        ];
        let declared = methods.into_iter().filter_map(|(method, operation)| {
            let needs = Needs::of(operation.as_ref()?);
            Some((method, needs))
        });
        declared.collect()
    }

    /// `None`: the route has no such method.
    fn needs(&self, path: &str, method: &Method) -> Option<&Needs> {
        let Some(route) = self.0.get(path) else {
            return Some(&Needs::Undeclared);
        };
        // axum answers HEAD wherever GET is answered.
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        route.get(method)
    }

    /// The operations that do not say what they ask for.
    #[cfg(test)]
    pub(crate) fn undeclared(&self) -> Vec<String> {
        let routes = self.0.iter().flat_map(|(path, methods)| {
            methods
                .iter()
                .map(move |(method, needs)| (path, method, needs))
        });
        routes
            .filter(|(_, _, needs)| **needs == Needs::Undeclared)
            .map(|(path, method, _)| format!("{method} {path}"))
            .collect()
    }
}

/// What the check knows.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) state: ApiState,
    pub(crate) declared: Arc<Declared>,
}

/// Middleware of every route: lets in who may, and leaves word of who it is for the handlers.
pub(crate) async fn enter(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // Before the handler reads anything: a stranger's upload of 33 MiB is never held in memory.
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let caller = match gate.declared.needs(path, request.method()) {
        // Answered 405 by whoever comes next.
        None | Some(Needs::Nothing) => Caller::anyone(),
        Some(Needs::OneOf(scopes)) => {
            // Found out at the door, where the limits of clients ask for it as well.
            let identity = request.extensions_mut().remove::<Identity>();
            gate.caller(scopes, identity)?
        }
        Some(Needs::Undeclared) => {
            return Err(ApiError::Panicked("a route without a scope".into()));
        }
    };
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

impl Gate {
    fn caller(&self, scopes: &[KeyScope], identity: Option<Identity>) -> Result<Caller, ApiError> {
        let is_asked = self.state.auth == ApiAuth::Required
            || scopes.iter().any(|scope| scope.is_always_asked_for());
        if !is_asked {
            return Ok(Caller::anyone());
        }
        let caller = self.identified(identity)?;
        if scopes.iter().any(|scope| caller.may(*scope)) {
            return Ok(caller);
        }
        // The first one is the route's own; the others are those of portals.
        let scope = scopes.first().map_or("", |scope| scope.as_str());
        Err(ApiError::ScopeMissing(scope))
    }

    fn identified(&self, identity: Option<Identity>) -> Result<Caller, ApiError> {
        match identity {
            Some(Identity::Caller(caller)) => Ok(caller),
            Some(Identity::Refused(KeyRefusal::Failed(error))) => Err(ApiError::App(error)),
            Some(Identity::Refused(why)) => Err(ApiError::KeyRefused(why)),
            None if self.state.auth == ApiAuth::Off && self.state.admin_token.is_none() => {
                Err(ApiError::AdminDisabled)
            }
            None => Err(ApiError::NoKey),
        }
    }
}

/// What came of a request's key or token.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// It is somebody's.
    Caller(Caller),
    /// It lets nobody in.
    Refused(KeyRefusal),
}

impl Identity {
    /// Looks up the key or the token of a request, whatever its route asks for; `None` if it has neither.
    pub(crate) async fn of(state: &ApiState, headers: &HeaderMap) -> Option<Self> {
        let token = bearer(headers)?;
        if state.admin_token.is_some_and(|admin| admin.is(token)) {
            return Some(Self::Caller(Caller::admin()));
        }
        if !KeyText::is_meant(token) {
            return None;
        }
        Some(match state.app.authenticate(token).await {
            Ok(caller) => Self::Caller(caller),
            Err(why) => Self::Refused(why),
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use utoipa::openapi::{path::OperationBuilder, security::SecurityRequirement};

    use super::*;

    fn token(authorization: &[&str]) -> Option<String> {
        let values = authorization
            .iter()
            .map(|value| HeaderValue::from_str(value).expect("a header value"));
        let headers = values.map(|value| (header::AUTHORIZATION, value)).collect();
        bearer(&headers).map(ToOwned::to_owned)
    }

    #[test]
    fn only_the_token_passes() {
        let admin = AdminToken::new(&"0123456789abcdef".into());
        let passes =
            |authorization: &[&str]| token(authorization).is_some_and(|one| admin.is(&one));
        for right in [
            "Bearer 0123456789abcdef",
            "bearer 0123456789abcdef",
            "BEARER   0123456789abcdef ",
        ] {
            assert!(passes(&[right]), "{right}");
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
            assert!(!passes(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_declared_is_shut() {
        let needs = |security: &[SecurityRequirement]| {
            let operation = OperationBuilder::new();
            Needs::of(
                &security
                    .iter()
                    .cloned()
                    .fold(operation, OperationBuilder::security)
                    .build(),
            )
        };
        let key = |scopes: &[&str]| SecurityRequirement::new(SCHEME, scopes.iter().copied());
        assert_eq!(needs(&[]), Needs::Undeclared);
        assert_eq!(needs(&[key(&[])]), Needs::Undeclared);
        assert_eq!(needs(&[key(&["stores:reed"])]), Needs::Undeclared);
        assert_eq!(needs(&[SecurityRequirement::default()]), Needs::Nothing);
        assert_eq!(
            needs(&[SecurityRequirement::new("mock", [""; 0])]),
            Needs::Nothing
        );
        assert_eq!(
            needs(&[key(&["deliveries:write"]), key(&["portal:care"])]),
            Needs::OneOf(vec![KeyScope::DeliveriesWrite, KeyScope::Care])
        );
    }
}
