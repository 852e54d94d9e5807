//! The ends of calls, in the words that metrics and traces share.

use wharf_engine::{Blame, Fault};

/// The end of a call, as metrics and traces name it.
pub(crate) fn call_outcome(fault: Option<&Fault>) -> &'static str {
    match fault {
        None => "answered",
        Some(Fault::Refused(_)) => "refused",
        Some(Fault::NotFound) => "not_found",
        Some(Fault::OutOfService(_)) => "out_of_service",
        Some(Fault::Overloaded) => "overloaded",
        Some(Fault::UpstreamPaused(_)) => "upstream_paused",
        Some(fault) => match fault.blame() {
            Blame::Plugin => "plugin_fault",
            Blame::Upstream => "upstream_fault",
            Blame::Host => "host_fault",
        },
    }
}
