//! Compiles the plugins to components: `plugins/<directory>/` becomes `plugins/<directory>.wasm`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use wharf_pack::PackFacts;

use crate::{
    packages::{self, Home, PROFILE, Package, TARGET},
    process::{id, run_ok},
    progress::{note, section},
    workspace::{cargo, find_program, root},
};

/// The hostile guests of the tests, compiled or left out. They stay in the target directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guests {
    Built,
    LeftOut,
}

/// Compiles all plugins in one cargo run and puts them where a host finds them.
pub(crate) fn build(guests: Guests) -> Result<()> {
    ensure_target()?;
    let mut components = packages::all()?;
    components.retain(|package| {
        package.component.is_some() && (package.home == Home::Plugins || guests == Guests::Built)
    });
    ensure!(
        !components.is_empty(),
        "there are no plugins in {}",
        root().join("plugins").display()
    );
    section(
        &format!("Compiling {} components to {TARGET}", components.len()),
        || {
            let mut command = cargo();
            command.args(["build", "--target", TARGET, "--profile", PROFILE]);
            packages::select(&mut command, &components);
            run_ok(&mut command)
        },
    )?;
    components
        .iter()
        .filter(|package| package.home == Home::Plugins)
        .try_for_each(install)
}

/// Packs a component, writes it beside its place and renames it, so that a running host never reads half a file. An
/// unchanged one is left alone.
fn install(package: &Package) -> Result<()> {
    let built = package
        .component
        .as_ref()
        .context("a library is no plugin")?;
    let name = package
        .dir
        .file_name()
        .context("a plugin's directory has no name")?
        .to_string_lossy();
    let target = root().join("plugins").join(format!("{name}.wasm"));
    let bytes = fs::read(built).with_context(|| format!("cargo built no {}", built.display()))?;
    let bytes = wharf_pack::pack(&bytes, &facts(package)?);
    if fs::read(&target).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let beside = root().join("plugins").join(format!(".{name}.wasm.new"));
    fs::write(&beside, &bytes)
        .with_context(|| format!("{} cannot be written", beside.display()))?;
    fs::rename(&beside, &target)
        .with_context(|| format!("{} cannot be replaced", target.display()))?;
    note(&format!(
        "plugins/{name}.wasm, {} KiB",
        bytes.len().div_ceil(1024)
    ));
    Ok(())
}

/// The facts of a package by `cargo metadata`, and the vectors in its `conformance/`.
fn facts(package: &Package) -> Result<PackFacts> {
    let fact = |name: &str| package.facts[name].as_str().map(String::from);
    let conformance = package.dir.join("conformance");
    let vectors = if conformance.is_dir() {
        wharf_pack::vectors(&conformance)?
    } else {
        Vec::new()
    };
    Ok(PackFacts {
        version: fact("version"),
        licenses: fact("license"),
        description: fact("description"),
        vectors,
    })
}

/// Makes sure that the toolchain in use can compile to components. `rust-toolchain.toml` asks rustup for it, but
/// automatic installation can be off, and distributions ship Rust without rustup.
pub(crate) fn ensure_target() -> Result<()> {
    if target_installed()? {
        return Ok(());
    }
    if find_program("rustup").is_some() {
        section(&format!("Adding the target {TARGET}"), || {
            run_ok(
                Command::new("rustup")
                    .current_dir(root())
                    .args(["target", "add", TARGET]),
            )
        })
        .with_context(missing_target)?;
    }
    if target_installed()? {
        Ok(())
    } else {
        bail!(missing_target())
    }
}

fn missing_target() -> String {
    let account = id(&["-un"]).unwrap_or_else(|_| "this user".into());
    format!(
        "this Rust toolchain cannot compile to {TARGET}: install it with `rustup target add {TARGET}` (as {account}), or, \
         without rustup, the package that brings the standard library for {TARGET}"
    )
}

fn target_installed() -> Result<bool> {
    let output = Command::new("rustc")
        .current_dir(root())
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("rustc cannot be run")?;
    Ok(output.status.success()
        && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}
