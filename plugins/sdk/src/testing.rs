//! What stands in for the host in native tests of a plugin.

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
pub fn with_config<'a, T>(values: impl IntoIterator<Item = (&'a str, &'a str)>, test: impl FnOnce() -> T) -> T {
    let values = values.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let before = CONFIG.replace(values);
    let outcome = test();
    CONFIG.set(before);
    outcome
}

#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
pub(crate) fn configured(key: &str) -> Option<String> {
    CONFIG.with_borrow(|config| config.get(key).cloned())
}
