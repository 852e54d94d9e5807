//! Stand-ins for the host in native tests of a plugin.

use std::{cell::RefCell, collections::HashMap};

thread_local! {
    static CONFIG: RefCell<HashMap<String, String>> = RefCell::default();
}

/// Runs `test` with these configuration values granted on this thread, and none after it.
///
/// ```
/// use wharf_plugin_sdk::{config, testing};
///
/// testing::with_config([("region", "eu")], || assert_eq!(config::get("region").as_deref(), Some("eu")));
/// assert_eq!(config::get("region"), None);
/// ```
pub fn with_config<'a, T>(
    values: impl IntoIterator<Item = (&'a str, &'a str)>,
    test: impl FnOnce() -> T,
) -> T {
    let values = values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let before = CONFIG.replace(values);
    let outcome = test();
    CONFIG.set(before);
    outcome
}

#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
pub(crate) fn configured(key: &str) -> Option<String> {
    CONFIG.with_borrow(|config| config.get(key).cloned())
}

pub use upstream::with_upstream;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use upstream::answered;

mod upstream {
    use std::{cell::RefCell, rc::Rc};

    use crate::http::{Error, Request, Response};

    type Upstream = Rc<dyn Fn(&Request) -> Result<Response, Error>>;

    thread_local! {
        static UPSTREAM: RefCell<Option<Upstream>> = const { RefCell::new(None) };
    }

    /// Runs `test` with `upstream` answering the requests of this thread. Without it every request is denied.
    pub fn with_upstream<T>(
        upstream: impl Fn(&Request) -> Result<Response, Error> + 'static,
        test: impl FnOnce() -> T,
    ) -> T {
        let before = UPSTREAM.replace(Some(Rc::new(upstream)));
        let outcome = test();
        UPSTREAM.set(before);
        outcome
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn answered(request: &Request) -> Result<Response, Error> {
        let upstream = UPSTREAM.with_borrow(Clone::clone);
        upstream.map_or(Err(Error::Denied), |answer| answer(request))
    }
}
