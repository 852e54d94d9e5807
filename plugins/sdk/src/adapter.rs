//! The world `marketplace-adapter`: judging receipts.

use crate::__bindings::adapter::exports::wharf::plugin::adapter as wit;

pub use wit::{Fault, Manifest, Order, Request, Verdict};

/// A marketplace. Export it with [`crate::export_adapter!`].
pub trait Adapter {
    /// Describes the adapter and what it asks for, in the same way for every call under the same configuration.
    fn manifest() -> Manifest;

    /// Asks the marketplace for a receipt. Same request and same marketplace, same verdict: keep no state, for the
    /// next call runs in a fresh instance.
    ///
    /// # Errors
    /// A [`Fault`] tells the host why the marketplace could not say: it asks again later.
    fn validate(request: Request) -> Result<Verdict, Fault>;
}

impl Manifest {
    /// A manifest that asks for nothing: the name that stores register under (`a-z`, `0-9`, `-`), the name for
    /// people, and the plugin's semantic version, usually `env!("CARGO_PKG_VERSION")`.
    pub fn new(marketplace: &str, display_name: &str, version: &str) -> Self {
        Self {
            marketplace: marketplace.into(),
            display_name: display_name.into(),
            version: version.into(),
            wanted_origins: Vec::new(),
            config_keys: Vec::new(),
            credentials: Vec::new(),
        }
    }

    /// Asks for outbound HTTP to an origin such as `https://api.example.com`.
    #[must_use]
    pub fn wants_origin(mut self, origin: &str) -> Self {
        self.wanted_origins.push(origin.into());
        self
    }

    /// Asks for a configuration key, to be read with [`crate::config::get`].
    #[must_use]
    pub fn reads_config(mut self, key: &str) -> Self {
        self.config_keys.push(key.into());
        self
    }

    /// Asks that the host adds a credential to the requests of this adapter.
    #[must_use]
    pub fn uses_credential(mut self, name: &str) -> Self {
        self.credentials.push(name.into());
        self
    }
}

#[doc(hidden)]
impl<T: Adapter> wit::Guest for T {
    fn describe() -> Manifest {
        T::manifest()
    }

    fn validate(request: Request) -> Result<Verdict, Fault> {
        <T as Adapter>::validate(request)
    }
}
