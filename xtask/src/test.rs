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

/// Runs `cargo test` with these arguments (none: every suite, the plugins' own first) and returns its code.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    plugins::build(Guests::Built)?;
    heading("Building the host");
    run_ok(cargo().arg("build"))?;
    if arguments.is_empty() {
        heading("Testing the plugins' code natively");
        let mut command = cargo();
        command.arg("test");
        for package in plugins::packages()? {
            command.args(["-p", &package]);
        }
        run_ok(&mut command)?;
    }
    let servers = Servers::start(Durability::Skipped)?;
    heading("Running the suites");
    let mut command = cargo();
    command.arg("test").args(arguments);
    servers.name_for_tests(&mut command);
    Ok(exit_code(run_command(&mut command)?))
}
