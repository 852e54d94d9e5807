//! What is refused before anything is done, whatever the route.

use axum::extract::Request;
use wharf_app::RequestLimit;

use crate::{
    ApiSettings, ApiState,
    access::Identity,
    browser::{self, AllowedHosts},
    error::ApiError,
    is_probe,
    limits::{ClientAddress, Clients, InWork, Limited, Whose},
    loops,
};

/// What the door asks.
pub(crate) struct Door {
    hosts: AllowedHosts,
    clients: Clients,
    // `None` in tests of single routes, which know no keys.
    state: Option<ApiState>,
}

impl Door {
    pub(crate) fn new(settings: &ApiSettings, state: Option<ApiState>) -> Self {
        Self {
            hosts: settings.hosts.clone(),
            clients: Clients::new(settings.clients),
            state,
        }
    }

    /// Lets a request in, and leaves word of who sent it; or refuses webhooks, hosts that are not this one, what pages of
    /// other origins send, and what is too much of one client. The request is in work as long as what is returned is held.
    pub(crate) async fn enter(&self, request: &mut Request) -> Result<Option<InWork>, ApiError> {
        self.judge(request)?;
        self.admit(request).await
    }

    fn judge(&self, request: &Request) -> Result<(), ApiError> {
        loops::refuse_webhooks(request.headers())?;
        self.hosts.check(request)?;
        browser::refuse_foreign(request)
    }

    async fn admit(&self, request: &mut Request) -> Result<Option<InWork>, ApiError> {
        // Its supervisor would end a host that does not answer, and a scraper miss what is going on. Nor may either wait for
        // a key to be looked up.
        let path = request.uri().path();
        let (Some(state), false) = (&self.state, is_probe(path) || path == "/metrics") else {
            return Ok(None);
        };
        let identity = Identity::of(state, request.headers()).await;
        let address = request.extensions().get::<ClientAddress>();
        let admitted = match (&identity, address) {
            (Some(Identity::Caller(caller)), _) => self.clients.admit(Whose::Caller(caller)),
            // Also with a key that lets nobody in: making them up is no way around a limit.
            (_, Some(address)) => self.clients.admit(Whose::Address(*address)),
            (_, None) => Ok(InWork::uncounted()),
        };
        if let Some(identity) = identity {
            request.extensions_mut().insert(identity);
        }
        admitted.map(Some).map_err(|why| {
            state.app.metrics().request_limited(match why {
                Limited::Rate(_) => RequestLimit::Rate,
                Limited::Concurrency => RequestLimit::Concurrency,
            });
            ApiError::ClientLimited(why)
        })
    }
}
