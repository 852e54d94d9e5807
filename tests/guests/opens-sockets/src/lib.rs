//! A hostile adapter that opens a socket: it imports `wasi:sockets` and must be refused before it is compiled.

use wharf_plugin_sdk::adapter::{Adapter, Fault, Manifest, Request, Verdict};

struct OpensSockets;

impl Adapter for OpensSockets {
    fn manifest() -> Manifest {
        Manifest::new("opens-sockets", "Opens sockets", env!("CARGO_PKG_VERSION"))
    }

    fn validate(request: Request) -> Result<Verdict, Fault> {
        match std::net::TcpStream::connect(request.receipt) {
            Ok(stream) => Ok(Verdict::Rejected(format!(
                "connected to {:?}",
                stream.peer_addr()
            ))),
            Err(error) => Err(Fault::Unavailable(error.to_string())),
        }
    }
}

wharf_plugin_sdk::export_adapter!(OpensSockets);
