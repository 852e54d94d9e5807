//! `cargo xtask test`: all that the suites need, then the suites.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    packages,
    plugins::{self, Guests},
    process::{exit_code, run as run_command, run_ok},
    progress::{heading, section},
    servers::{Durability, Servers},
    workspace::cargo,
};

/// Runs `cargo test` with these arguments (none: every suite, those of plugins and guests first) and returns its code.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    plugins::build(Guests::Built)?;
    section("Building the host", || run_ok(cargo().arg("build")))?;
    if arguments.is_empty() {
        let packages = packages::all()?;
        section("Testing the code of plugins and guests natively", || {
            let mut command = cargo();
            packages::select(command.arg("test"), packages.iter().filter(|package| package.is_tested_natively()));
            run_ok(&mut command)
        })?;
    }
    let servers = Servers::start(Durability::Skipped)?;
    heading("Running the suites");
    let mut command = cargo();
    command.arg("test").args(arguments);
    servers.name_for_tests(&mut command);
    Ok(exit_code(run_command(&mut command)?))
}
