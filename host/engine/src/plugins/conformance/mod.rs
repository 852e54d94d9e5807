//! Conformance: contract checks that every plugin must pass, run on generated input, and the vectors that its author
//! packed into it.
//!
//! One suite, four users: the author from the command line, the host before a revision serves, this project's own tests
//! and the CI of a plugin's repository. The checks:
//!
//! - it describes itself, the same way each time;
//! - it answers every receipt or event (empty, long, in any script, of digits or control characters) without a trap and
//!   within its limits, and the answers keep the contract (exact amounts, three-letter currencies, valid headers);
//! - the same input gives the same answer;
//! - an adapter that asks over HTTP reports a failing marketplace by the right fault, for which it has to ask;
//! - every vector is answered as written.
//!
//! Vectors are JSON in the custom section `wharf:conformance`, `{"cases": [...]}`; see [`vectors`]. Nothing here
//! reaches the network: a case plays its marketplace itself.

mod checks;
mod inputs;
mod recorded;
mod report;
mod upstream;
mod vectors;

use std::time::Duration;

use super::revision::Revision;
use crate::contract::refusal::{Refusal, Stage};

pub(crate) use inputs::{event, inputs, request};
pub(crate) use recorded::case as recorded_case;
pub use report::{Conformance, ContractCheck, ContractCheckReport, Failure};
pub(crate) use vectors::{read as read_vectors, sections as vector_sections};

/// The extent of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Up to the first failure, for a host that only decides.
    UntilItFails,
    /// Everything, for an author who wants to see all failures.
    Everything,
}

/// Runs every contract check and the vectors on a revision.
pub(crate) async fn run(revision: &Revision, component: &[u8], depth: Depth) -> Conformance {
    let mut conformance = Conformance::default();
    for check in ContractCheck::ALL {
        let report = checks::run(check, revision, component, depth).await;
        let failed = !report.failures.is_empty();
        conformance.checks.push(report);
        if failed && depth == Depth::UntilItFails {
            break;
        }
    }
    conformance
}

/// Refuses a revision that fails a check, or whose checks take too long together: the host's question before it serves.
pub(crate) async fn check(
    revision: &Revision,
    component: &[u8],
    limit: Duration,
) -> Result<(), Refusal> {
    let conformance = within(limit, run(revision, component, Depth::UntilItFails)).await?;
    let Some((check, failure)) = conformance.first_failure() else {
        return Ok(());
    };
    let cause = format!("{check}: {}: {}", failure.case, failure.cause);
    Err(Refusal::new(
        Stage::Conform,
        cause,
        "run `wharf plugin check` on the file and correct what it names",
    ))
}

/// Ends a run when its time is over. Each call has a limit, but there are some hundred of them and vectors besides.
pub(crate) async fn within(
    limit: Duration,
    run: impl Future<Output = Conformance>,
) -> Result<Conformance, Refusal> {
    tokio::time::timeout(limit, run).await.map_err(|_| {
        let limit = limit.as_secs_f32();
        Refusal::new(
            Stage::Conform,
            format!("its contract checks and vectors took longer than {limit} s together"),
            "answer faster, pack fewer vectors, or have the operator raise PLUGIN_CONFORMANCE_LIMIT",
        )
    })
}
