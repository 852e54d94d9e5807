//! `cargo xtask test`: all that the suites need, then the suites.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    packages,
    plugins::{self, Guests},
    process::{exit_code, run as run_command, run_ok},
    progress::{heading, section},
    python,
    servers::{Durability, Servers},
    workspace::cargo,
};

/// Runs `cargo test` with these arguments (none: every suite, those of the plugins too) and returns its code.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    plugins::build(Guests::Built)?;
    section("Building the host", || run_ok(cargo().arg("build")))?;
    if arguments.is_empty() || arguments.iter().any(|argument| argument == "schemathesis") {
        python::install_loudly("schemathesis", "tests/schemathesis/requirements.txt");
    }
    let servers = Servers::start(Durability::Skipped)?;
    heading("Running the suites");
    let mut command = cargo();
    command.arg("test");
    if arguments.is_empty() {
        // Everything that is broken, in one run.
        packages::select_native(command.arg("--no-fail-fast"))?;
    }
    servers.name_for_tests(command.args(arguments));
    Ok(exit_code(run_command(&mut command)?))
}
