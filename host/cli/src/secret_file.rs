//! Secrets that the embedded default makes for itself: files that only their owner may read.
#![allow(
    clippy::disallowed_methods,
    reason = "read once at the start, before anything is served"
)]

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;

use crate::modes;

/// Origin of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was made just now.
    Made,
    /// It was there.
    Found,
}

/// Returns the line of the file. If there is no file, writes what `make` returns.
///
/// # Errors
/// If the file can neither be read nor made, or if others may use it.
pub(crate) fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<(String, Origin)> {
    let mut origin = Origin::Found;
    // Two processes may both find nothing. `keep` lets one win, and both read the winner's below.
    if !path.exists() && keep(path, &make()?)? {
        origin = Origin::Made;
    }
    modes::refuse_open(path)?;
    Ok((fs::read_to_string(path)?.trim().to_owned(), origin))
}

/// Written beside, readable for its owner alone, and put in place whole and only where there is none: of two processes
/// that start together, both read the same secret. Returns whether it is ours.
fn keep(path: &Path, line: &str) -> anyhow::Result<bool> {
    // In the same folder: a rename does not lead from one file system to another.
    let mut file = tempfile::NamedTempFile::new_in(path.parent().context("it has no folder")?)?;
    writeln!(file, "{line}")?;
    // Before it has its name: after a power cut the file is whole or absent, never a key that is empty.
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        // Somebody was quicker. Theirs counts, and ours is deleted with the temporary file.
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(refused) => Err(refused.error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("secret");
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let make = |n| read_or_make(&path, || Ok(format!("secret {n}"))).expect("a secret");
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || make(n))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        assert_eq!(
            secrets
                .iter()
                .filter(|(_, origin)| *origin == Origin::Made)
                .count(),
            1
        );
        assert!(secrets.iter().all(|(secret, _)| *secret == secrets[0].0));
        assert_eq!(
            fs::metadata(&path).expect("the file").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1);
    }
}
