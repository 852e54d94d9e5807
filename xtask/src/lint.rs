//! `cargo xtask lint`: formatting, clippy and rustdoc over everything, warnings denied.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    packages::{self, Package, TARGET},
    plugins::ensure_target,
    process::run_ok,
    progress::section,
    workspace::cargo,
};

/// Stops at the first step that finds something.
pub(crate) fn run() -> Result<ExitCode> {
    ensure_target()?;
    let packages = packages::all()?;
    let native = |package: &&Package| package.is_tested_natively();
    let component = |package: &&Package| package.component.is_some();
    section("Formatting", || run_ok(cargo().args(["fmt", "--all", "--check"])))?;
    section("Clippy of the host", || run_ok(denying(cargo().args(["clippy", "--locked", "--all-targets"]))))?;
    section("Clippy of plugins and guests, natively", || {
        let mut command = cargo();
        packages::select(command.args(["clippy", "--locked", "--all-targets"]), packages.iter().filter(native));
        run_ok(denying(&mut command))
    })?;
    section("Clippy of plugins and guests, as components", || {
        let mut command = cargo();
        packages::select(command.args(["clippy", "--locked", "--target", TARGET]), packages.iter().filter(component));
        run_ok(denying(&mut command))
    })?;
    section("Documentation", || {
        let rustdoc = || {
            let mut command = cargo();
            command.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--locked", "--no-deps"]);
            command
        };
        run_ok(&mut rustdoc())?;
        run_ok(rustdoc().args(["-p", "wharf-plugin-sdk"]))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn denying(clippy: &mut Command) -> &mut Command {
    clippy.args(["--", "-D", "warnings"])
}
