//! The browser of the tests, a package of the distribution.

use crate::{install, python::say_skipped, workspace::find_program};

/// Installs Chromium and its driver, unless they are there already. Where that cannot be done it says so, and what needs
/// them does without.
pub(crate) fn install_loudly() {
    const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
    let has_browser = BROWSERS.iter().any(|name| find_program(name).is_some());
    if has_browser && find_program("chromedriver").is_some() {
        return;
    }
    if let Err(why) = install::packages(&["chromium", "chromium-driver"]) {
        say_skipped("browser", &why);
    }
}
