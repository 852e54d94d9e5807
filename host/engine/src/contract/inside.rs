//! Reading files of a folder that links must not lead out of.

#![allow(
    clippy::disallowed_methods,
    reason = "files are read on the engine's own threads, which serve no requests"
)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Reads one file. A link is followed only inside the folder, as mounted configuration needs it.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if there is no such file; a link to nowhere is another error.
pub(crate) fn read_inside(dir: &Path, path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let path = dir.join(path);
    let target = path.canonicalize().map_err(|error| {
        // A file that is gone is no mistake, but a link to nowhere is.
        if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_ok() {
            io::Error::other("it is a link that leads nowhere")
        } else {
            error
        }
    })?;
    // Any other file of the host may be read by a path or a link that leads out.
    if !target.starts_with(dir.canonicalize()?) {
        return Err(io::Error::other("it is outside its folder"));
    }
    let file = open(&target)?;
    // A pipe or a device would never end.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more.
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::other(format!(
            "it is larger than {} KiB",
            max / 1024
        )));
    }
    Ok(bytes)
}

/// Opens a file. A link that was put in its place meanwhile is not followed, and a pipe is not waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
