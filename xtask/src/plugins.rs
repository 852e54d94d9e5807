//! Compiles the plugins to components: `plugins/<directory>/` becomes `plugins/<directory>.wasm`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    pack::pack,
    process::{id, run_ok},
    progress::{heading, note},
    workspace::{cargo, find_program, metadata, root},
};

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "plugin";

/// Whether the hostile guests of the tests are compiled besides. They stay in the target directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guests {
    Built,
    LeftOut,
}

/// A package of the workspace that becomes a component.
struct Component {
    /// What `cargo metadata` says of it.
    package: Value,
    /// The directory of its manifest, whose name is the plugin's.
    dir: PathBuf,
    /// The file that cargo builds.
    built: PathBuf,
}

/// Compiles all plugins in one cargo run and puts them where a host finds them.
pub(crate) fn build(guests: Guests) -> Result<()> {
    ensure_target()?;
    let plugins = components_in(&root().join("plugins"))?;
    let mut wanted: Vec<&Component> = plugins.iter().collect();
    let hostile = components_in(&root().join("tests/guests"))?;
    if guests == Guests::Built {
        wanted.extend(&hostile);
    }
    if wanted.is_empty() {
        bail!("there are no plugins in {}", root().join("plugins").display());
    }
    heading(&format!("Compiling {} components to {TARGET}", wanted.len()));
    let mut command = cargo();
    command.args(["build", "--target", TARGET, "--profile", PROFILE]);
    for component in &wanted {
        command.args(["-p", component.package["name"].as_str().unwrap_or_default()]);
    }
    run_ok(&mut command)?;
    plugins.iter().try_for_each(install)
}

/// Packs a component, writes it beside its place and renames it, so that a running host never reads half a file. An unchanged one
/// is left alone.
fn install(component: &Component) -> Result<()> {
    let name = component.dir.file_name().context("a plugin's directory has no name")?.to_string_lossy();
    let target = root().join("plugins").join(format!("{name}.wasm"));
    let built = fs::read(&component.built).with_context(|| format!("cargo built no {}", component.built.display()))?;
    let bytes = pack(built, &component.package, &component.dir)?;
    if fs::read(&target).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let beside = root().join("plugins").join(format!(".{name}.wasm.new"));
    fs::write(&beside, &bytes).with_context(|| format!("{} cannot be written", beside.display()))?;
    fs::rename(&beside, &target).with_context(|| format!("{} cannot be replaced", target.display()))?;
    note(&format!("plugins/{name}.wasm, {} KiB", bytes.len().div_ceil(1024)));
    Ok(())
}

/// The names of all packages in `plugins/`, also of those that are no component: their unit tests run natively.
pub(crate) fn packages() -> Result<Vec<String>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let dir = root().join("plugins");
    let of_a_plugin =
        |package: &&Value| Path::new(package["manifest_path"].as_str().unwrap_or_default()).starts_with(&dir);
    Ok(packages.iter().filter(of_a_plugin).filter_map(|package| Some(package["name"].as_str()?.to_owned())).collect())
}

/// The packages right under a directory that build a component.
fn components_in(dir: &Path) -> Result<Vec<Component>> {
    let metadata = metadata()?;
    let built_in =
        Path::new(metadata["target_directory"].as_str().context("cargo metadata names no target directory")?)
            .join(TARGET)
            .join(PROFILE);
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    Ok(packages.iter().filter_map(|package| component(package, dir, &built_in)).collect())
}

fn component(package: &Value, parent: &Path, built_in: &Path) -> Option<Component> {
    let dir = Path::new(package["manifest_path"].as_str()?).parent()?;
    let library = package["targets"].as_array()?.iter().find(|target| {
        target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
    })?;
    (dir.parent()? == parent).then_some(())?;
    Some(Component {
        package: package.clone(),
        dir: dir.to_owned(),
        built: built_in.join(format!("{}.wasm", library["name"].as_str()?.replace('-', "_"))),
    })
}

/// Makes sure that the toolchain in use can compile to components. `rust-toolchain.toml` asks rustup for it, but
/// automatic installation can be off, and distributions ship Rust without rustup.
fn ensure_target() -> Result<()> {
    if target_installed()? {
        return Ok(());
    }
    if find_program("rustup").is_some() {
        heading(&format!("Adding the target {TARGET}"));
        run_ok(Command::new("rustup").current_dir(root()).args(["target", "add", TARGET]))
            .with_context(missing_target)?;
    }
    if target_installed()? { Ok(()) } else { bail!(missing_target()) }
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
    Ok(output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}
