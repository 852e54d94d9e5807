//! `cargo xtask lint`: formatting, clippy and rustdoc over everything, warnings denied.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    packages::{self, TARGET},
    plugins::ensure_target,
    process::run_ok,
    progress::section,
    workspace::cargo,
};

/// Stops at the first step that finds something.
pub(crate) fn run() -> Result<ExitCode> {
    ensure_target()?;
    section("Formatting", || {
        run_ok(cargo().args(["fmt", "--all", "--check"]))
    })?;
    section("Clippy", || {
        let mut command = cargo();
        packages::select_native(command.args(["clippy", "--locked", "--all-targets"]))?;
        run_ok(command.args(["--", "-D", "warnings"]))
    })?;
    section("Clippy of the components", || {
        let mut components = packages::all()?;
        components.retain(|package| package.component.is_some());
        let mut command = cargo();
        packages::select(
            command.args(["clippy", "--locked", "--target", TARGET]),
            &components,
        );
        run_ok(command.args(["--", "-D", "warnings"]))
    })?;
    section("Documentation", || {
        let mut command = cargo();
        command.env("RUSTDOCFLAGS", "-D warnings");
        packages::select_native(command.args(["doc", "--locked", "--no-deps"]))?;
        run_ok(&mut command)
    })?;
    Ok(ExitCode::SUCCESS)
}
