//! Whether a plugin keeps the contract: laws that hold for every plugin, tried on generated input, and vectors that its
//! author packed into it.
//!
//! One suite, four users: the author from the command line, the host before a revision serves, this project's own tests
//! and the CI of a plugin's repository. The laws:
//!
//! - it describes itself, the same way each time;
//! - it answers every receipt or event, also empty, long, in any script, of digits or control characters, without a trap
//!   and within its limits, and what it answers keeps the contract (exact amounts, three-letter currencies, valid headers);
//! - the same input gives the same answer;
//! - an adapter that asks over HTTP tells by the right fault what its marketplace would not say;
//! - every vector is answered as written.
//!
//! Vectors are JSON in the custom section `wharf:conformance`, `{"cases": [...]}`; see [`vectors`]. Nothing here reaches the
//! network: a case plays its marketplace itself.

mod laws;
mod report;
mod vectors;

use crate::revision::Revision;
use crate::{Refusal, Stage};

pub(crate) use laws::{event, inputs, request};
pub use report::{Conformance, Failure, Law, LawReport};
pub(crate) use vectors::{read as read_vectors, sections as vector_sections};

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Up to the first failure: the host only wants to know whether.
    UntilItFails,
    /// Everything: the author wants to know what.
    Everything,
}

/// Tries a revision against every law and its vectors.
pub(crate) async fn run(revision: &Revision, component: &[u8], depth: Depth) -> Conformance {
    let mut conformance = Conformance::default();
    for law in Law::ALL {
        let report = laws::try_law(law, revision, component, depth).await;
        let failed = !report.failures.is_empty();
        conformance.laws.push(report);
        if failed && depth == Depth::UntilItFails {
            break;
        }
    }
    conformance
}

/// The host's question before a revision serves.
pub(crate) async fn check(revision: &Revision, component: &[u8]) -> Result<(), Refusal> {
    let conformance = run(revision, component, Depth::UntilItFails).await;
    let Some((law, failure)) = conformance.first_failure() else {
        return Ok(());
    };
    let cause = format!("{law}: {}: {}", failure.case, failure.cause);
    Err(Refusal::new(
        Stage::Conform,
        cause,
        "run `wharf plugin check` on the file and mend what it names",
    ))
}
