//! Files that a kill at any step leaves old or new, never half.

#![allow(
    clippy::disallowed_methods,
    reason = "files are read and written on the engine's own threads, which serve no requests"
)]

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Tells if this is a file of [`write_beside`] that has not come to its place.
pub(super) fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tmp")
}

/// Writes a file beside its place and renames it, so that a reader sees the old bytes or the new and a mapped file is
/// never written over.
pub(super) fn write_beside(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // A random name, because two hosts may write the same file at a time.
    let beside = parent.join(format!(".{:016x}.tmp", u64::from_be_bytes(random()?)));
    let written = write_new(&beside, parts).and_then(|()| {
        wharf_failpoint::pass("file.written");
        fs::rename(&beside, path)
    });
    // A full disk must not fill up with halves.
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    wharf_failpoint::pass("file.renamed");
    // A rename is on disk only when its folder is.
    fs::File::open(parent)?.sync_all()
}

/// Writes a new file that only this user can read, and waits for the disk.
pub(super) fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = private().create_new(true).open(path)?;
    wharf_failpoint::pass("file.begun");
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

/// Returns options for a file that only this user can read.
fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
