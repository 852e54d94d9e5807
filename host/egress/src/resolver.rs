//! Name resolution with the address rule behind it.
//!
//! The rule stands where the connection is made: the addresses that were checked are the ones that are connected to, so
//! a name that changes its address between check and use gains nothing.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tower::{BoxError, Service};

use crate::Guard;

/// A source of addresses for names. The host uses the machine's own; tests bring theirs.
pub trait Resolver: Send + Sync {
    /// Returns all addresses of a name.
    fn resolve(
        &self,
        name: String,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// The machine's own name service.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(
        &self,
        name: String,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Resolves names and refuses those that lead to a forbidden address.
pub(crate) fn guarded_resolver(
    guard: Guard,
    inner: Arc<dyn Resolver>,
) -> impl Service<Name, Response = vec::IntoIter<SocketAddr>, Error = BoxError, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static {
    tower::service_fn(move |name: Name| {
        let (guard, found) = (guard.clone(), inner.resolve(name.as_str().to_owned()));
        async move {
            let found = found.await?;
            guard.check_resolved(name.as_str(), &found)?;
            // Port 0: the connector sets the URL's own.
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(addresses.collect::<Vec<_>>().into_iter())
        }
    })
}
