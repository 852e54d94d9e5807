//! Configuration values that the operator granted. Never secrets: those are credentials, which only the host sees.

use crate::adapter::Fault;

/// The value of a key that the manifest lists, if the operator set one.
pub fn get(key: &str) -> Option<String> {
    #[cfg(target_arch = "wasm32")]
    return crate::__bindings::adapter::wharf::plugin::config::get(key);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::configured(key);
}

/// The value of a key that the adapter cannot work without.
///
/// # Errors
/// [`Fault::Misconfigured`] naming the key, if the operator set none.
pub fn require(key: &str) -> Result<String, Fault> {
    get(key)
        .ok_or_else(|| Fault::Misconfigured(format!("the configuration key `{key}` is not set")))
}
