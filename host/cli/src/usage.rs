//! Errors of somebody who called the program wrongly, and the files that they named.
#![allow(
    clippy::disallowed_methods,
    reason = "a command reads its files before it does anything else"
)]

use std::{fmt, fs, path::Path};

/// The program was called wrongly: it ends with code 2, as for options that do not exist.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl UsageError {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// A file that the user named.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, UsageError> {
    fs::read(path).map_err(|error| UsageError(format!("{}: {error}", path.display())))
}

/// A text file that the user named.
pub(crate) fn read_text(path: &Path) -> Result<String, UsageError> {
    fs::read_to_string(path).map_err(|error| UsageError(format!("{}: {error}", path.display())))
}
