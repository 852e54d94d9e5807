//! `cargo xtask bench`: the benchmark program in release, with real plugins and servers that keep what they confirm.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    plugins::{self, Guests},
    process::{exit_code, run as run_command, run_ok},
    progress::section,
    servers::{Durability, Servers},
    workspace::{cargo, root, target_dir},
};

/// Runs the benchmarks with these arguments and returns their code.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    plugins::build(Guests::Built)?;
    section("Building the host and the benchmarks in release", || {
        run_ok(cargo().args(["build", "--release", "-p", "wharf", "-p", "wharf-bench"]))
    })?;
    let servers = Servers::start(Durability::Kept)?;
    let mut command = Command::new(target_dir()?.join("release/wharf-bench"));
    command.current_dir(root()).args(arguments);
    servers.name_for_all(&mut command);
    Ok(exit_code(run_command(&mut command)?))
}
