//! `cargo xtask test`: all that the suites need, then the suites.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    examples, packages,
    plugins::{self, Guests},
    process::{exit_code, run as run_command, run_ok},
    progress::{heading, section},
    python,
    servers::{Durability, Servers},
    workspace::cargo,
};

/// Runs `cargo test` with these arguments and returns its code. Without any: every suite, those of the plugins too, and the
/// examples in other languages.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    plugins::build(Guests::Built)?;
    section("Building the host", || run_ok(cargo().arg("build")))?;
    for (tool, suite) in [
        ("schemathesis", "schemathesis"),
        ("receivers", "signatures"),
    ] {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == suite) {
            python::install_loudly(tool, &format!("tests/{tool}/requirements.txt"));
        }
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
    let status = run_command(&mut command)?;
    if status.success() && arguments.is_empty() {
        examples::run()
    } else {
        Ok(exit_code(status))
    }
}
