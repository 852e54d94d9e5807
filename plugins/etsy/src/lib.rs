//! The Etsy marketplace: the mock rules under its own name.

use wharf_plugin_sdk::adapter::{Adapter, Fault, Manifest, Request, Verdict};

struct Etsy;

impl Adapter for Etsy {
    fn manifest() -> Manifest {
        Manifest::new("etsy", "Etsy", env!("CARGO_PKG_VERSION"))
    }

    fn validate(request: Request) -> Result<Verdict, Fault> {
        mock_rules::judge(&request)
    }
}

wharf_plugin_sdk::export_adapter!(Etsy);
