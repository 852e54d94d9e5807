//! The `wharf` program: settings, wiring, roles, signals and commands.
//!
//! Promise: every setting is checked before anything starts, and wrong ones end the program with one answer that names
//! them all. Logs go to stderr; stdout carries what a command was asked for. Left out: what the system does, which is
//! `wharf-app`, and how it is served, which is `wharf-api`.

mod admin_token;
mod cli;
mod commands;
mod key;
mod listing;
mod log_buffer;
mod logging;
mod mock_credentials;
mod modes;
mod operator;
mod output;
mod process;
mod read;
mod remote;
mod secret;
mod secret_file;
mod settings;
mod shutdown;
mod traces;
mod usage;
mod whole_file;
mod wiring;

use std::process::ExitCode;

use anyhow::Context;

use crate::{cli::Cli, settings::WrongSettings, traces::Traces, usage::UsageError};

/// Requests are made of many small, short-lived pieces. Figures in bench/README.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a command that was called wrongly, as shells have it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match read::read().map_err(anyhow::Error::from).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            ExitCode::from(if error.is::<WrongSettings>() || error.is::<UsageError>() {
                USAGE
            } else {
                1
            })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    // Before anything secret is read and anything is opened.
    process::prepare(cli.process)?;
    // One TLS implementation for the database and for HTTP, chosen before either is used.
    let provider = rustls::crypto::ring::default_provider();
    provider
        .install_default()
        .ok()
        .context("a TLS provider was installed already")?;
    // After the TLS provider, which the exporter's client needs, and before the log, of which they are a layer.
    let traces = if cli.command.is_service() {
        Traces::from_environment().map_err(WrongSettings::from)?
    } else {
        Traces::off()
    };
    // Dropped last: what the end itself says is written, too.
    let _log = logging::start(&cli.logging, cli.command.default_level(), &traces)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let (format, style) = (cli.format(), cli.logging.style());
    let result = runtime.block_on(cli.command.run(format, style));
    // Whatever is still running was given its time; a stuck thread must not keep the process.
    runtime.shutdown_background();
    traces.flush();
    result
}
