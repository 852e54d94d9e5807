//! The child's side: compiles one component from its standard input to its standard output, within limits that it sets
//! itself before it reads a byte.

use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::contract::inspect::MAX_COMPONENT_BYTES;
use crate::sandbox::runtime::{self, Metering};

/// Behind everything that serves.
const NICENESS: i32 = 10;

/// The limits of one compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processor time, in seconds. A host that lives kills its compiler sooner.
    pub processor_seconds: u64,
}

/// A component that could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The limits could not be set.
    #[error("the limits of the compiler cannot be set: {0}")]
    Limits(#[source] io::Error),
    /// The component could not be read, or the code not be written.
    #[error("the compiler's pipes are broken: {0}")]
    Pipe(#[source] io::Error),
    /// The component is invalid.
    #[error("{0:#}")]
    Invalid(#[source] wasmtime::Error),
}

impl CompileLimits {
    /// Returns them as arguments of the command line.
    pub(super) fn arguments(self) -> [String; 4] {
        [
            "--memory-bytes".into(),
            self.memory_bytes.to_string(),
            "--processor-seconds".into(),
            self.processor_seconds.to_string(),
        ]
    }
}

/// Limits this process for good, then compiles a component: the whole of a host's `<program> compile-plugin`. With
/// `counts_fuel` the code counts units of work.
///
/// # Errors
/// If the component is invalid. One that needs more than the limits ends the process.
pub fn compile_plugin(
    limits: CompileLimits,
    counts_fuel: bool,
    component: impl Read,
    mut code: impl Write,
) -> Result<(), CompileError> {
    confine(limits).map_err(|error| CompileError::Limits(error.into()))?;
    let mut bytes = Vec::new();
    component
        .take(MAX_COMPONENT_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(CompileError::Pipe)?;
    let metering = if counts_fuel {
        Metering::Fuel
    } else {
        Metering::Time
    };
    let compiled = runtime::compiler(metering)
        .and_then(|engine| engine.precompile_component(&bytes))
        .map_err(CompileError::Invalid)?;
    let written = code.write_all(&compiled).and_then(|()| code.flush());
    written.map_err(CompileError::Pipe)
}

fn confine(limits: CompileLimits) -> rustix::io::Result<()> {
    // First: from here on it dies with its host. Linux asks for the thread that started it, which the guests' runtime
    // keeps until its end.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    rustix::process::nice(NICENESS)?;
    lower(Resource::Core, 0)?;
    // Data and not addresses: threads reserve far more addresses than they use.
    lower(Resource::Data, limits.memory_bytes)?;
    lower(Resource::Cpu, limits.processor_seconds)
}

/// Sets a limit; one that is lower already stays.
fn lower(resource: Resource, to: u64) -> rustix::io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let to = Some(maximum.map_or(to, |maximum| maximum.min(to)));
    let (current, maximum) = (
        to,
        if resource == Resource::Cpu {
            maximum
        } else {
            to
        },
    );
    // The softer limit of processor time has a signal of its own, by which the host knows it.
    setrlimit(resource, Rlimit { current, maximum })
}
