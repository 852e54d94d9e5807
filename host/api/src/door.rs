//! What is refused before anything is done, whatever the route.

use axum::extract::Request;
use wharf_app::{App, RequestLimit};

use crate::{
    ApiSettings,
    browser::{self, AllowedHosts},
    error::ApiError,
    is_probe,
    limits::{ClientAddress, Clients, InWork, Limited},
    loops,
};

/// What the door asks.
pub(crate) struct Door {
    hosts: AllowedHosts,
    clients: Clients,
    app: Option<App>,
}

impl Door {
    /// With an app, its metrics tell how many requests the limits of clients refused.
    pub(crate) fn new(settings: &ApiSettings, app: Option<App>) -> Self {
        Self {
            hosts: settings.hosts.clone(),
            clients: Clients::new(settings.clients),
            app,
        }
    }

    /// Refuses webhooks, hosts that are not this one, what pages of other origins send, and what is too much of one client.
    /// The request is in work as long as what is returned is held.
    pub(crate) fn judge(&self, request: &Request) -> Result<Option<InWork>, ApiError> {
        loops::refuse_webhooks(request.headers())?;
        self.hosts.check(request)?;
        browser::refuse_foreign(request)?;
        // Its supervisor would end a host that it is not answered by, and a scraper miss what is going on.
        let path = request.uri().path();
        let address = request.extensions().get::<ClientAddress>();
        match address {
            Some(address) if !is_probe(path) && path != "/metrics" => {
                self.admit(*address).map(Some)
            }
            // Only tests of single routes come without an address.
            _ => Ok(None),
        }
    }

    fn admit(&self, address: ClientAddress) -> Result<InWork, ApiError> {
        self.clients.admit(address).map_err(|why| {
            let metrics = self.app.as_ref().map(App::metrics);
            if let Some(metrics) = metrics {
                metrics.request_limited(match why {
                    Limited::Rate(_) => RequestLimit::Rate,
                    Limited::Concurrency => RequestLimit::Concurrency,
                });
            }
            ApiError::ClientLimited(why)
        })
    }
}
