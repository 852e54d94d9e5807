//! Files that a command writes: for their owner alone, and under their name only once they are whole.
#![allow(
    clippy::disallowed_methods,
    reason = "commands of one user: they write a file, and end"
)]

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use tempfile::{Builder, NamedTempFile};

/// A file on its way. Dropped, nothing is left of it.
pub(crate) struct WholeFile {
    beside: NamedTempFile,
    path: PathBuf,
    /// Whether it may take the place of one that is there.
    force: bool,
}

impl WholeFile {
    /// Begins a file beside the place where it will be.
    ///
    /// # Errors
    /// If there is a file already that may not be replaced, or none can be made.
    pub(crate) fn begin(path: &Path, force: bool) -> anyhow::Result<Self> {
        if !force && path.symlink_metadata().is_ok() {
            return Err(in_the_way(path));
        }
        let name = || format!("{} cannot be written", path.display());
        // In the same folder: a rename does not lead from one file system to another. Its mode is 0600.
        let beside = Builder::new()
            .prefix(".wharf-")
            .tempfile_in(folder(path))
            .with_context(name)?;
        Ok(Self {
            beside,
            path: path.to_owned(),
            force,
        })
    }

    /// The path under which it is written.
    pub(crate) fn beside(&self) -> &Path {
        self.beside.path()
    }

    /// The file, to be written to.
    pub(crate) fn file(&mut self) -> &mut File {
        self.beside.as_file_mut()
    }

    /// Puts it in its place, on the disk. Returns its length in bytes.
    ///
    /// # Errors
    /// If the disk is full, or another file has come there meanwhile.
    pub(crate) fn finish(self) -> anyhow::Result<u64> {
        let path = self.path;
        let name = || format!("{} cannot be written", path.display());
        let file = self.beside.as_file();
        file.sync_all().with_context(name)?;
        let bytes = file.metadata().with_context(name)?.len();
        let kept = if self.force {
            self.beside.persist(&path)
        } else {
            self.beside.persist_noclobber(&path)
        };
        match kept {
            Ok(_) => {}
            Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(in_the_way(&path));
            }
            Err(refused) => return Err(refused.error).with_context(name),
        }
        // The name, too, outlives a power cut.
        File::open(folder(&path))
            .and_then(|folder| folder.sync_all())
            .with_context(name)?;
        Ok(bytes)
    }
}

fn in_the_way(path: &Path) -> anyhow::Error {
    anyhow::anyhow!("{} is there already; --force replaces it", path.display())
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Refuses a path that is no file's.
pub(crate) fn refuse_folder(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        bail!("{} is a folder: name a file", path.display());
    }
    Ok(())
}
