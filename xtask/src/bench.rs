//! `cargo xtask bench`: the benchmark program in release, with real plugins and servers that keep what they confirm.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    plugins::{self, Guests},
    process::{exit_code, run as run_command, run_ok},
    progress::section,
    servers::{Durability, Servers},
    workspace::cargo,
};

/// Runs the benchmarks with these arguments and returns their code.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    plugins::build(Guests::LeftOut)?;
    section("Building the host and the benchmarks in release", || {
        run_ok(cargo().args(["build", "--release", "-p", "wharf", "-p", "wharf-bench"]))
    })?;
    let servers = Servers::start(Durability::Kept)?;
    let mut command = cargo();
    command.args(["run", "--release", "--quiet", "-p", "wharf", "-p", "wharf-bench", "--bin", "wharf-bench", "--"]);
    command.args(arguments);
    servers.name_for_all(&mut command);
    Ok(exit_code(run_command(&mut command)?))
}
