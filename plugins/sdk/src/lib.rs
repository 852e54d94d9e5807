//! The SDK for Wharf plugins in Rust: a trait and a macro for each world of the plugin contract.
//!
//! ```
//! use wharf_plugin_sdk::adapter::{Adapter, Fault, Manifest, Request, Verdict};
//!
//! struct Corner;
//!
//! impl Adapter for Corner {
//!     fn manifest() -> Manifest {
//!         Manifest::new("corner", "Corner Shop", "1.0.0")
//!     }
//!
//!     fn validate(request: Request) -> Result<Verdict, Fault> {
//!         Ok(Verdict::Rejected(format!("{} is not ours", request.receipt)))
//!     }
//! }
//!
//! wharf_plugin_sdk::export_adapter!(Corner);
//! # fn main() {}
//! ```
//!
//! Promise: the author never sees bindings, and everything also runs natively, so that `cargo test` tests a plugin
//! without WebAssembly: log lines go to standard error, and [`testing`] stands in for the operator and the marketplace.
//! Left out on purpose: clocks, files and sockets, which the contract does not give to plugins.

// The generated code names this crate by its path, here and in the crates of its users.
extern crate self as wharf_plugin_sdk;

#[doc(hidden)]
#[path = "bindings.rs"]
pub mod __bindings;

pub mod adapter;
mod check;
pub mod config;
pub mod decimal;
pub mod http;
pub mod log;
#[doc(hidden)]
pub mod retry_after;
mod rfc3339;
pub mod shaper;
pub mod testing;

/// Makes a type that implements [`adapter::Adapter`] the component's adapter. Once per crate.
#[macro_export]
macro_rules! export_adapter {
    ($adapter:ident) => {
        #[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
        const _: () = {
            use $crate::__bindings::adapter as bindings;
    $crate::__bindings::adapter::__export_adapter!($adapter with_types_in bindings);
        };
    };
}

/// Makes a type that implements [`shaper::Shaper`] the component's shaper. Once per crate.
#[macro_export]
macro_rules! export_shaper {
    ($shaper:ident) => {
        #[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
        const _: () = {
            use $crate::__bindings::shaper as bindings;
    $crate::__bindings::shaper::__export_shaper!($shaper with_types_in bindings);
        };
    };
}

#[cfg(test)]
mod tests {
    #[allow(clippy::disallowed_methods, reason = "test code")]
    #[test]
    fn the_contract_is_the_repositorys() {
        // The copy makes the crate whole when it is vendored; the folder `wit/` of the repository is the original.
        let original =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/0.1.0/plugin.wit");
        let Ok(original) = std::fs::read_to_string(original) else {
            return;
        };
        assert!(
            original == include_str!("../wit/plugin.wit"),
            "copy wit/0.1.0/plugin.wit to plugins/sdk/wit/"
        );
    }
}
