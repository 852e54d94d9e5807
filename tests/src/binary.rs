//! Paths of the program, the plugins and the guests under test.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie in the repository's root")
}

/// The `wharf` program that was built with these tests; `WHARF_BINARY` names another.
///
/// # Panics
/// If it is not built.
pub fn wharf_binary() -> PathBuf {
    if let Some(path) = env::var_os("WHARF_BINARY") {
        return path.into();
    }
    let path = profile_dir().join("wharf");
    assert!(
        path.is_file(),
        "{} is missing: `cargo xtask test` builds it first",
        path.display()
    );
    path
}

/// A plugin that ships with Wharf, such as `etsy`, compiled.
///
/// # Panics
/// If it is not built.
pub fn built_plugin(name: &str) -> PathBuf {
    built(repository().join("plugins").join(format!("{name}.wasm")))
}

/// A guest of the tests (`tests/guests/`), compiled. Its package's name with dashes.
///
/// # Panics
/// If it is not built.
pub fn guest(package: &str) -> PathBuf {
    built(
        target_dir()
            .join("wasm32-wasip2/plugin")
            .join(format!("{}.wasm", package.replace('-', "_"))),
    )
}

/// A program that `cargo xtask test` installs below `target/tools`, if it could.
pub fn tool(path: &str) -> Option<PathBuf> {
    Some(target_dir().join("tools").join(path)).filter(|path| path.is_file())
}

/// Cargo's target directory.
pub(crate) fn target_dir() -> PathBuf {
    profile_dir()
        .parent()
        .expect("a profile's directory lies in the target directory")
        .to_owned()
}

fn built(path: PathBuf) -> PathBuf {
    assert!(
        path.is_file(),
        "{} is missing: `cargo xtask plugins --guests` builds it",
        path.display()
    );
    path
}

/// Tests run from `target/<profile>/deps/`.
fn profile_dir() -> PathBuf {
    let test = env::current_exe().expect("this program's own path");
    test.ancestors()
        .nth(2)
        .expect("tests run in target/<profile>/deps")
        .to_owned()
}
