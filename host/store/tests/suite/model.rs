//! The ledger against a plain model in memory: whatever workers do in whatever order, and however stale they are, both
//! answer the same. Long form by `WHARF_TEST_LONG=1`.

mod deliveries;
mod jobs;

use anyhow::{Result, anyhow};
use proptest::{
    strategy::{Just, Strategy},
    test_runner::{Config, TestCaseError, TestRunner},
};
use wharf_tests::on_every_backend;

use deliveries::deliveries_follow_the_model;
use jobs::jobs_follow_the_model;

/// Runs random steps, case by case, on one ledger. A failure is shrunk to the fewest steps and printed.
fn run_cases<S: Strategy>(step: S, run: impl AsyncFn(Vec<S::Value>) -> Result<()>) -> Result<()>
where
    S::Value: Clone + std::fmt::Debug,
{
    let cases = if std::env::var_os("WHARF_TEST_LONG").is_some() {
        1_000
    } else {
        24
    };
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let steps = (proptest::collection::vec(step, 1..60), Just(()));
    let result = runner.run(&steps, |(steps, ())| {
        let handle = tokio::runtime::Handle::current();
        let done = tokio::task::block_in_place(|| handle.block_on(run(steps)));
        done.map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    result.map_err(|error| anyhow!("{error}"))
}

on_every_backend!(jobs_follow_the_model, deliveries_follow_the_model);
