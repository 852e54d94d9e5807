//! Installs distribution packages where that is allowed, and says what to do where it is not.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{id, run_ok},
    progress::heading,
    workspace::find_program,
};

/// Debian asks this script before it starts the service of a package that is being installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs Debian packages without starting their services. Fails with the command to run where it may not.
pub(crate) fn packages(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if find_program("apt-get").is_none() {
        bail!(
            "missing here: {list} (these are Debian's names; install what your system calls them)"
        );
    }
    let Some(privilege) = privilege()? else {
        bail!("missing here: {list}. Run `apt-get install {list}` as root");
    };
    heading(&format!("Installing {list}"));
    let _no_services = NoServices::decree(&privilege);
    run_ok(privilege.command("apt-get").args(["update", "-q"]))?;
    let mut install = privilege.command("apt-get");
    install
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(packages)
        .stdin(Stdio::null());
    run_ok(&mut install).with_context(|| format!("apt-get install {list}"))
}

/// This user's way to act as root.
enum Privilege {
    Root,
    Sudo,
}

impl Privilege {
    fn command(&self, program: &str) -> Command {
        let mut command = match self {
            Self::Root => Command::new("env"),
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "env"]);
                sudo
            }
        };
        command.args(["DEBIAN_FRONTEND=noninteractive", program]);
        command
    }
}

fn privilege() -> Result<Option<Privilege>> {
    if id(&["-u"])? == "0" {
        return Ok(Some(Privilege::Root));
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stderr(Stdio::null())
        .status();
    Ok(sudo
        .is_ok_and(|status| status.success())
        .then_some(Privilege::Sudo))
}

/// While this lives, Debian's packages do not start services. A policy that the machine already has is left in force.
struct NoServices<'a> {
    undo: Option<&'a Privilege>,
}

impl<'a> NoServices<'a> {
    fn decree(privilege: &'a Privilege) -> Self {
        if Path::new(POLICY).exists() {
            return Self { undo: None };
        }
        // A failure to write it costs a service that runs unasked, not the installation.
        let written = tempfile::NamedTempFile::new().and_then(|file| {
            fs::write(file.path(), "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755))?;
            privilege
                .command("cp")
                .arg("-p")
                .arg(file.path())
                .arg(POLICY)
                .status()
        });
        Self {
            undo: written
                .is_ok_and(|status| status.success())
                .then_some(privilege),
        }
    }
}

impl Drop for NoServices<'_> {
    fn drop(&mut self) {
        if let Some(privilege) = self.undo {
            // Reported, not returned: a drop has nobody to return to.
            if !privilege
                .command("rm")
                .args(["-f", POLICY])
                .status()
                .is_ok_and(|status| status.success())
            {
                eprintln!(
                    "{POLICY} could not be removed: it keeps services of new packages from starting"
                );
            }
        }
    }
}
