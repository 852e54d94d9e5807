//! The Amazon marketplace: the mock rules under its own name.

use wharf_plugin_sdk::adapter::{Adapter, Fault, Manifest, Request, Verdict};

struct Amazon;

impl Adapter for Amazon {
    fn manifest() -> Manifest {
        Manifest::new("amazon", "Amazon", env!("CARGO_PKG_VERSION"))
    }

    fn validate(request: Request) -> Result<Verdict, Fault> {
        mock_rules::judge(&request)
    }
}

wharf_plugin_sdk::export_adapter!(Amazon);
