//! The Shopify marketplace: the mock rules under its own name.

use wharf_plugin_sdk::adapter::{Adapter, Fault, Manifest, Request, Verdict};

struct Shopify;

impl Adapter for Shopify {
    fn manifest() -> Manifest {
        Manifest::new("shopify", "Shopify", env!("CARGO_PKG_VERSION"))
    }

    fn validate(request: Request) -> Result<Verdict, Fault> {
        mock_rules::judge(&request)
    }
}

wharf_plugin_sdk::export_adapter!(Shopify);
