//! Child processes that never outlive this program, and stopping in order on Ctrl-C or SIGTERM.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::workspace::find_program;

/// Interval of looks at a child or the stop flag.
const POLL: Duration = Duration::from_millis(20);

/// Time that a background process has to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);

static STOPPED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Turns Ctrl-C, SIGTERM and SIGHUP into a flag, so that what was started is stopped in order. A second one ends at once.
pub(crate) fn listen_for_stop() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_default(signal, STOPPED.clone())?;
        signal_hook::flag::register(signal, STOPPED.clone())?;
    }
    Ok(())
}

/// Returns true once this program was asked to stop.
pub(crate) fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Waits until the condition holds. Fails when the time is over or this program is asked to stop.
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !holds()? {
        if stopped() {
            bail!("stopped while waiting for {what}");
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Runs a command to its end with this terminal; asked to stop, it passes the request on and waits.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stopped() && !told {
            signal_child(&child, Signal::TERM);
            told = true;
        }
        thread::sleep(POLL);
    }
}

/// Runs a command and takes anything but success as an error.
pub(crate) fn run_ok(command: &mut Command) -> Result<()> {
    let status = run(command)?;
    if !status.success() {
        bail!(
            "{} ended with {status}",
            command.get_program().to_string_lossy()
        );
    }
    Ok(())
}

/// The code that this program ends with when it ran something that ended so.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A command for [`Background::start`], as another user if one is named (which takes root). Where `setpriv` exists the
/// kernel interrupts the process even if this program is killed.
pub(crate) fn background(program: &Path, user: Option<&str>) -> Result<Command> {
    let Some(setpriv) = find_program("setpriv") else {
        ensure!(
            user.is_none(),
            "setpriv (package util-linux) is needed to start {} without root",
            program.display()
        );
        return Ok(Command::new(program));
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "INT"]);
    if let Some(user) = user {
        command.args([
            "--reuid",
            user,
            "--regid",
            &id(&["-g", user])?,
            "--clear-groups",
        ]);
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// A process in the background, interrupted (SIGINT) and waited for when this value is dropped.
pub(crate) struct Background {
    name: &'static str,
    child: Child,
}

impl Background {
    /// Starts a command in a process group of its own, so that Ctrl-C reaches it through this program, in order.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child })
    }

    /// Fails if the process has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended by itself: {status}", self.name),
            None => Ok(()),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        signal_child(&self.child, Signal::INT);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!("{} does not end: killed", self.name);
                // Errors mean that it has just ended; there is nothing left to do either way.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(POLL);
        }
    }
}

fn signal_child(child: &Child, signal: Signal) {
    // The child is reaped through `child` alone, so the id is still its own; one that has ended ignores the signal.
    let _ = kill_process(Pid::from_child(child), signal);
}

/// The output of `id`, trimmed: `id -u` is this user's number, `id -g name` the group of another.
pub(crate) fn id(arguments: &[&str]) -> Result<String> {
    let output = Command::new("id")
        .args(arguments)
        .output()
        .context("id cannot be run")?;
    if !output.status.success() {
        bail!(
            "id {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
