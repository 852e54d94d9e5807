//! The caller of a request.

use std::sync::Arc;

use wharf_domain::{ApiKeyId, KeyScope, KeyScopes, OrganizationId, Reach};
use wharf_store::api_keys::ApiKey;

/// Whoever sent a request, and what they may do. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Who>);

#[derive(Debug)]
struct Who {
    id: String,
    actor: String,
    reach: Reach,
    scopes: KeyScopes,
    key: Option<ApiKeyId>,
}

impl Caller {
    fn new(id: String, actor: String, reach: Reach, scopes: KeyScopes) -> Self {
        Self(Arc::new(Who {
            id,
            actor,
            reach,
            scopes,
            key: None,
        }))
    }

    /// Anybody at all, where no key is asked for.
    pub fn anyone() -> Self {
        let (id, scopes) = ("anyone", KeyScopes::all());
        Self::new(id.into(), id.into(), Reach::Everything, scopes)
    }

    /// Whoever has the admin token. It can make any key, and so it may do what any key may.
    pub fn admin() -> Self {
        let (id, scopes) = ("admin", KeyScopes::all());
        Self::new(id.into(), id.into(), Reach::Everything, scopes)
    }

    pub(super) fn key(key: &ApiKey) -> Self {
        let reach = match &key.organization_id {
            Some(organization) => Reach::Organization(organization.clone()),
            None => Reach::Everything,
        };
        Self(Arc::new(Who {
            id: format!("key:{}", key.id),
            actor: format!("key {} {}", key.name, key.id),
            reach,
            scopes: key.scopes,
            key: Some(key.id),
        }))
    }

    /// Somebody of one organization who may do everything there, for tests of what reads requests.
    pub fn of_organization(organization: OrganizationId) -> Self {
        let (id, reach) = ("somebody", Reach::Organization(organization));
        Self::new(id.into(), id.into(), reach, KeyScopes::all())
    }

    pub(super) fn portal(organization: OrganizationId, scopes: KeyScopes) -> Self {
        let id = format!("portal:{organization}");
        let actor = format!("portal of {organization}");
        Self::new(id, actor, Reach::Organization(organization), scopes)
    }

    /// A stable name for them, the same at every request: `key:<id>`, `portal:<organization>`, `admin`, or `anyone` where
    /// no key was asked for.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The name that audits have.
    pub fn actor(&self) -> &str {
        &self.0.actor
    }

    /// The key that they sent; `None` for a token of either kind.
    pub(super) fn api_key(&self) -> Option<ApiKeyId> {
        self.0.key
    }

    /// The organizations that they may touch.
    pub fn reach(&self) -> &Reach {
        &self.0.reach
    }

    /// The one organization that they are of; `None` for operators, and where no key was asked for.
    pub fn organization(&self) -> Option<&OrganizationId> {
        match &self.0.reach {
            Reach::Everything => None,
            Reach::Organization(organization) => Some(organization),
        }
    }

    /// True if they may do what asks for this scope.
    pub fn may(&self, scope: KeyScope) -> bool {
        self.0.scopes.allow(scope)
    }
}
