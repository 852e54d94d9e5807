//! Progress for people: a spinner while a step runs, one line when it is done.

use std::time::{Duration, Instant};

use anyhow::Result;
use console::style;
use indicatif::ProgressBar;

/// Runs a step that prints its own progress, such as a cargo build, and says how long it took.
pub(crate) fn section<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    heading(what);
    let started = Instant::now();
    let result = work();
    report(what, &result, started);
    result
}

/// Announces what follows.
pub(crate) fn heading(what: &str) {
    eprintln!("{} {what}", style("==>").cyan().bold().for_stderr());
}

/// A line of explanation under a step.
pub(crate) fn note(text: &str) {
    eprintln!("    {}", style(text).dim().for_stderr());
}

/// Runs a silent step behind a spinner (on a terminal) and says how it ended and how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    let started = Instant::now();
    let result = work();
    spinner.finish_and_clear();
    report(what, &result, started);
    result
}

fn report<T>(what: &str, result: &Result<T>, started: Instant) {
    match result {
        Ok(_) => eprintln!(
            "{} {what} ({:.1} s)",
            style("✓").green().for_stderr(),
            started.elapsed().as_secs_f64()
        ),
        Err(_) => eprintln!("{} {what}", style("✗").red().for_stderr()),
    }
}
