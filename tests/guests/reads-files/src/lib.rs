//! A hostile adapter that reads files: it imports `wasi:filesystem` and must be refused before it is compiled.

use wharf_plugin_sdk::adapter::{Adapter, Fault, Manifest, Request, Verdict};

struct ReadsFiles;

impl Adapter for ReadsFiles {
    fn manifest() -> Manifest {
        Manifest::new("reads-files", "Reads files", env!("CARGO_PKG_VERSION"))
    }

    fn validate(_: Request) -> Result<Verdict, Fault> {
        match std::fs::read_to_string("/etc/passwd") {
            Ok(text) => Ok(Verdict::Rejected(text)),
            Err(error) => Err(Fault::Unavailable(error.to_string())),
        }
    }
}

wharf_plugin_sdk::export_adapter!(ReadsFiles);
