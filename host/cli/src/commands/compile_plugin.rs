//! `wharf compile-plugin`: the host's own compiler, started by a host as its child and by nobody else.

use std::io;

use clap::Args;
use wharf_engine::CompileLimits;

/// `wharf compile-plugin`.
#[derive(Args)]
pub(crate) struct CompilePluginArgs {
    /// Memory that it may use
    #[arg(long)]
    memory_bytes: u64,
    /// Processor time that it may use
    #[arg(long)]
    processor_seconds: u64,
    /// The code counts units of work
    #[arg(long)]
    fuel: bool,
}

/// Compiles the component on standard input to standard output.
pub(crate) fn run(args: &CompilePluginArgs) -> anyhow::Result<()> {
    let limits = CompileLimits {
        memory_bytes: args.memory_bytes,
        processor_seconds: args.processor_seconds,
    };
    // Pipes from and to the host: nothing else may be printed on stdout.
    let (component, code) = (io::stdin().lock(), io::stdout().lock());
    Ok(wharf_engine::compile_plugin(
        limits, args.fuel, component, code,
    )?)
}
