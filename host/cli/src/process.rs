//! Demands on the system before anything else: no core dumps, and all the descriptors that the process may have.

use anyhow::Context;
use clap::{ArgAction, Args, builder::BoolishValueParser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The traces that a crash leaves.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ProcessArgs {
    /// Lets a crash leave a core file and others of the same user look into the process, keys and all: for debugging
    #[arg(long, global = true, env = "WHARF_CORE_DUMPS", value_parser = BoolishValueParser::new(), action = ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "WHARF_CORE_DUMPS")]
    core_dumps: bool,
}

/// Does both.
///
/// # Errors
/// If the system refuses.
pub(crate) fn prepare(args: ProcessArgs) -> anyhow::Result<()> {
    if !args.core_dumps {
        forbid_core_dumps()?;
    }
    raise_descriptors()
}

/// Keeps memory, and the keys in it, out of core files and away from other processes of the same user.
///
/// # Errors
/// If the system refuses.
fn forbid_core_dumps() -> anyhow::Result<()> {
    let none = Rlimit {
        current: Some(0),
        // The hard limit as well: neither this process nor a child can raise it again.
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).context("core files cannot be switched off")?;
    // Where a pattern pipes core dumps to a program, the limit alone does not count.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context("core dumps cannot be switched off")?;
    }
    Ok(())
}

/// Raises the limit on descriptors to what an administrator allows; a common default is 1,024 of 524,288.
///
/// # Errors
/// If the system refuses.
fn raise_descriptors() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Each client, delivery and database connection takes one; at the common default they run out first.
    setrlimit(Resource::Nofile, raised).context("the limit on descriptors cannot be raised")
}

/// The descriptors that this process may have open.
pub(crate) fn descriptors() -> u64 {
    // `None` means that there is no limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_of_this_process_leaves_nothing() {
        forbid_core_dumps().expect("the system lets a process have less");
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        #[cfg(target_os = "linux")]
        assert_eq!(
            rustix::process::dumpable_behavior(),
            Ok(rustix::process::DumpableBehavior::NotDumpable)
        );
        raise_descriptors().expect("a soft limit may be raised to the hard one");
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
