//! Modes of files and folders: who on this machine may use what is secret.
#![allow(
    clippy::disallowed_methods,
    reason = "looked at once at the start, before anything is served"
)]

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, ensure};

/// The bits of the group and of everybody else.
const OTHERS: u32 = 0o077;

/// Refuses a file with a secret that others on this machine may read or change.
///
/// # Errors
/// If they may; the message has the command that mends it.
pub(crate) fn refuse_open(path: &Path) -> anyhow::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    ensure!(
        mode & OTHERS == 0,
        "others on this machine may use it (mode {:04o}). Mend that by: chmod 600 {}",
        mode & 0o7777,
        path.display()
    );
    Ok(())
}

/// Makes the data folder for its owner alone: keys lie in it. One that is there keeps its mode, which somebody chose, and a
/// log line tells of a mode that lets others in.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn make_data_folder(path: &Path) -> anyhow::Result<()> {
    let name = || format!("WHARF_DATA_DIR: {} cannot be made", path.display());
    let mut private = DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(path).with_context(name)?;
    let mode = fs::metadata(path).with_context(name)?.permissions().mode();
    if mode & OTHERS != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = %format_args!("{:04o}", mode & 0o7777),
            mend = %format_args!("chmod 700 {}", path.display()),
            "others on this machine may look into the data folder"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    #[test]
    fn the_data_folder_is_made_for_its_owner_and_keeps_a_mode_that_was_chosen() {
        let dir = tempfile::tempdir().expect("a folder");
        let made = dir.path().join("a/b");
        make_data_folder(&made).expect("made");
        assert_eq!((mode(&made), mode(&dir.path().join("a"))), (0o700, 0o700));
        fs::set_permissions(&made, fs::Permissions::from_mode(0o750)).expect("changed");
        make_data_folder(&made).expect("there");
        assert_eq!(mode(&made), 0o750);
    }

    #[test]
    fn a_secret_that_others_may_use_is_refused_with_what_mends_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        fs::write(&path, "secret").expect("written");
        for (mode, is_private) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            let refused = refuse_open(&path);
            assert_eq!(refused.is_ok(), is_private, "{mode:o}");
            if let Err(refusal) = refused {
                let mend = format!("chmod 600 {}", path.display());
                assert!(refusal.to_string().contains(&mend), "{refusal}");
            }
        }
    }
}
