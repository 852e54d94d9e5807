//! `cargo xtask test`: all that the suites need, then the suites.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    plugins::{self, Guests},
    process::{exit_code, run as run_command, run_ok},
    progress::heading,
    servers::{Durability, Servers},
    workspace::cargo,
};

/// Runs `cargo test` with these arguments (none: every suite) and returns its code.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    plugins::build(Guests::Built)?;
    heading("Building the host");
    run_ok(cargo().arg("build"))?;
    let servers = Servers::start(Durability::Skipped)?;
    heading("Running the suites");
    let mut command = cargo();
    command.arg("test").args(arguments);
    servers.name_for_tests(&mut command);
    Ok(exit_code(run_command(&mut command)?))
}
