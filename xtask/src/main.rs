//! The chores of the repository: `cargo xtask <command>`.
//!
//! Promises: says what it does while it does it, leaves no process behind (also on Ctrl-C, failure and its own death),
//! and returns the code of what it ran. Leaves out: anything that the `wharf` program can do itself.

mod bench;
mod browser;
mod demo;
mod examples;
mod http;
mod install;
mod lint;
mod packages;
mod plugins;
mod process;
mod progress;
mod python;
mod servers;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{plugins::Guests, servers::Durability};

/// The chores of the Wharf repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Show a real order, a real sync and a real webhook going through real components, on an embedded database
    Demo {
        /// Check every expectation, stop, and say by the exit code whether all came true
        #[arg(long)]
        exit: bool,
    },
    /// Set up all that the tests need (target, plugins, PostgreSQL, Redis) and run every suite
    Test {
        /// Passed on to `cargo test`, such as `-p wharf-store` or the name of a test
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, clippy and documentation of everything, warnings denied
    Lint,
    /// Compile every plugin to `plugins/<name>.wasm`
    Plugins {
        /// Compile the hostile guests of the tests too
        #[arg(long)]
        guests: bool,
    },
    /// Build the adapters in JavaScript and Python with tools from npm and PyPI, and check them as every plugin is
    Examples,
    /// Run a command with a private PostgreSQL and Redis, named by DATABASE_URL and REDIS_URL
    WithServers {
        /// Let the servers skip fsync, as the tests do
        #[arg(long)]
        fast: bool,
        /// The command, such as `-- cargo run -p wharf -- serve`
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run the benchmarks in release with plugins and durable servers
    Bench {
        /// Passed on to the benchmark program
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    run(Arguments::parse().chore).unwrap_or_else(|error| {
        eprintln!(
            "{} {error:#}",
            console::style("error:").red().bold().for_stderr()
        );
        ExitCode::FAILURE
    })
}

fn run(chore: Chore) -> anyhow::Result<ExitCode> {
    process::listen_for_stop()?;
    match chore {
        Chore::Demo { exit } => demo::run(if exit {
            demo::Ending::Check
        } else {
            demo::Ending::StayUp
        }),
        Chore::Test { arguments } => test::run(&arguments),
        Chore::Lint => lint::run(),
        Chore::Plugins { guests } => {
            plugins::build(if guests {
                Guests::Built
            } else {
                Guests::LeftOut
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Chore::Examples => examples::run(),
        Chore::WithServers { fast, command } => servers::run_with(
            if fast {
                Durability::Skipped
            } else {
                Durability::Kept
            },
            &command,
        ),
        Chore::Bench { arguments } => bench::run(&arguments),
    }
}
