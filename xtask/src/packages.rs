//! The packages that are no part of the host: plugins, the hostile guests of the tests, and the libraries of both.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace::{metadata, root};

/// The target of components.
pub(crate) const TARGET: &str = "wasm32-wasip2";
/// The profile of `Cargo.toml` that they are compiled with.
pub(crate) const PROFILE: &str = "plugin";

/// The directory of a package.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// `plugins/`: ships with Wharf.
    Plugins,
    /// `tests/guests/`.
    Guests,
}

/// A package in one of these directories.
pub(crate) struct Package {
    /// Its entry in `cargo metadata`.
    pub(crate) facts: Value,
    /// The directory of its manifest, whose name is the plugin's.
    pub(crate) dir: PathBuf,
    pub(crate) home: Home,
    /// The file that cargo builds, if it becomes a component; else it is a library.
    pub(crate) component: Option<PathBuf>,
}

impl Package {
    fn name(&self) -> &str {
        self.facts["name"].as_str().unwrap_or_default()
    }
}

/// All of them.
pub(crate) fn all() -> Result<Vec<Package>> {
    let metadata = metadata()?;
    let target = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target directory")?;
    let built_in = Path::new(target).join(TARGET).join(PROFILE);
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    Ok(packages
        .iter()
        .filter_map(|facts| package(facts, &built_in))
        .collect())
}

fn package(facts: &Value, built_in: &Path) -> Option<Package> {
    let dir = Path::new(facts["manifest_path"].as_str()?).parent()?;
    let home = match dir.parent()? {
        parent if parent == root().join("plugins") => Home::Plugins,
        parent if parent == root().join("tests/guests") => Home::Guests,
        _ => return None,
    };
    let becomes_component = |target: &&Value| {
        target["crate_types"]
            .as_array()
            .is_some_and(|types| types.iter().any(|crate_type| crate_type == "cdylib"))
    };
    let library = facts["targets"]
        .as_array()?
        .iter()
        .find(becomes_component)
        .and_then(|target| target["name"].as_str());
    let component = library.map(|name| built_in.join(format!("{}.wasm", name.replace('-', "_"))));
    Some(Package {
        facts: facts.clone(),
        dir: dir.to_owned(),
        home,
        component,
    })
}

/// Names packages to a cargo command.
pub(crate) fn select(command: &mut Command, packages: &[Package]) {
    for package in packages {
        command.args(["-p", package.name()]);
    }
}

/// Has a cargo command work on all that runs natively: the whole workspace without the hostile components.
pub(crate) fn select_native(command: &mut Command) -> Result<()> {
    command.arg("--workspace");
    for package in all()?
        .iter()
        .filter(|package| package.home == Home::Guests && package.component.is_some())
    {
        command.args(["--exclude", package.name()]);
    }
    Ok(())
}
