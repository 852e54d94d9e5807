//! The revision store: revisions and records in the state folder, or in memory for an engine without one.
//!
//! Every file is written beside its place, synced and renamed, and a record is written after the bytes that it names.
//! So a host that is killed at any step finds the old revision or the new one. Hosts that share the folder take turns
//! by a lock on a file, which the operating system releases when its owner dies.

#![allow(
    clippy::disallowed_methods,
    reason = "files are read and written on the engine's own threads, which serve no requests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{is_unfinished, write_beside};
use super::record::Record;
use crate::contract::digest::Digest;

/// A revision as it came: the bytes that its digest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) bytes: Arc<[u8]>,
    /// The text of the grants, if there are any.
    pub(crate) grants: Option<Arc<str>>,
}

impl Stored {
    pub(crate) fn new(bytes: impl Into<Arc<[u8]>>, grants: Option<&str>) -> Self {
        Self {
            bytes: bytes.into(),
            grants: grants.map(Into::into),
        }
    }

    /// Returns the component's own digest, which `sha256sum` shows too, or the digest of both digests if there are
    /// grants.
    pub(crate) fn digest(&self) -> Digest {
        let component = self.component();
        self.grants.as_ref().map_or(component, |grants| {
            // Over both digests and not the bytes, so that where one ends is unmistakable.
            let both = [
                component.as_bytes().as_slice(),
                Digest::of(grants.as_bytes()).as_bytes(),
            ]
            .concat();
            Digest::of(&both)
        })
    }

    /// Returns the digest of the component alone, under which compiled code is kept.
    pub(crate) fn component(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// The store of every plugin's revisions and records.
pub(crate) enum RevisionStore {
    Memory(Mutex<Memory>),
    Folder(PathBuf),
}

#[derive(Default)]
pub(crate) struct Memory {
    records: BTreeMap<String, Record>,
    stored: BTreeMap<Digest, Stored>,
}

/// The right to change records, among all hosts. Dropping it lets the next host change them.
pub(crate) struct ChangeLock(#[allow(dead_code, reason = "held for its lock")] Option<fs::File>);

impl RevisionStore {
    pub(crate) fn open(state_dir: Option<&Path>) -> io::Result<Self> {
        let Some(dir) = state_dir else {
            return Ok(Self::Memory(Mutex::default()));
        };
        fs::create_dir_all(records_dir(dir))?;
        fs::create_dir_all(revisions_dir(dir))?;
        Ok(Self::Folder(dir.to_owned()))
    }

    /// Waits for the right to change records. Held for the time of a few small files, never while something compiles.
    pub(crate) fn lock(&self) -> io::Result<ChangeLock> {
        let Self::Folder(dir) = self else {
            return Ok(ChangeLock(None));
        };
        let file = fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("lock"))?;
        // Blocks the thread, for a few small files of another host at most.
        file.lock()?;
        Ok(ChangeLock(Some(file)))
    }

    /// Returns every record. One that cannot be read is logged and left out: the others must not suffer for it.
    pub(crate) fn records(&self) -> io::Result<BTreeMap<String, Record>> {
        let dir = match self {
            Self::Memory(memory) => return Ok(locked(memory).records.clone()),
            Self::Folder(dir) => records_dir(dir),
        };
        let mut records = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(name) = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".json"))
            else {
                continue;
            };
            match fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
                Ok(record) => drop(records.insert(name.to_owned(), record)),
                // Another host may have removed it since the folder was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(plugin = name, %error, "the plugin's state cannot be read")
                }
            }
        }
        Ok(records)
    }

    /// Returns a plugin's record; that of an unknown plugin is empty.
    pub(crate) fn record(&self, plugin: &str) -> io::Result<Record> {
        let path = match self {
            Self::Memory(memory) => {
                return Ok(locked(memory)
                    .records
                    .get(plugin)
                    .cloned()
                    .unwrap_or_default());
            }
            Self::Folder(dir) => record_file(dir, plugin),
        };
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(error),
        }
    }

    /// Makes this the plugin's record, for every host. This is the moment at which a change happens.
    pub(crate) fn save(&self, plugin: &str, record: &Record) -> io::Result<()> {
        match self {
            Self::Memory(memory) => {
                locked(memory)
                    .records
                    .insert(plugin.to_owned(), record.clone());
                Ok(())
            }
            Self::Folder(dir) => write_beside(
                &record_file(dir, plugin),
                &[&serde_json::to_vec_pretty(record)?],
            ),
        }
    }

    /// Keeps a revision's bytes.
    pub(crate) fn keep(&self, digest: Digest, stored: &Stored) -> io::Result<()> {
        match self {
            Self::Memory(memory) => {
                locked(memory).stored.insert(digest, stored.clone());
                Ok(())
            }
            Self::Folder(dir) => {
                let (component, grants) = revision_files(dir, digest);
                // Before the component: a reader that finds the component must find its grants.
                if let Some(text) = &stored.grants {
                    write_beside(&grants, &[text.as_bytes()])?;
                }
                write_beside(&component, &[&stored.bytes])
            }
        }
    }

    /// Returns a revision's bytes, if they are still what their name says.
    pub(crate) fn fetch(&self, digest: Digest) -> io::Result<Stored> {
        let stored = match self {
            Self::Memory(memory) => locked(memory)
                .stored
                .get(&digest)
                .cloned()
                .ok_or(io::ErrorKind::NotFound)?,
            Self::Folder(dir) => {
                let (component, grants) = revision_files(dir, digest);
                let grants = match fs::read_to_string(grants) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    text => Some(text?.into()),
                };
                Stored {
                    bytes: fs::read(component)?.into(),
                    grants,
                }
            }
        };
        // A disk error or an edit by hand must not serve under a name that promises other bytes.
        if stored.digest() == digest {
            return Ok(stored);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kept revision is not what its digest says",
        ))
    }

    /// Removes every revision that no record needs, and the unfinished files of hosts that died. Call it with the
    /// [`ChangeLock`] held: nobody else is writing then.
    pub(crate) fn prune(&self) -> io::Result<()> {
        let needed: BTreeSet<Digest> = self
            .records()?
            .values()
            .flat_map(|record| record.needed().collect::<Vec<_>>())
            .collect();
        match self {
            Self::Memory(memory) => locked(memory)
                .stored
                .retain(|digest, _| needed.contains(digest)),
            Self::Folder(dir) => {
                for entry in
                    fs::read_dir(revisions_dir(dir))?.chain(fs::read_dir(records_dir(dir))?)
                {
                    let path = entry?.path();
                    let digest = path
                        .file_stem()
                        .and_then(|stem| Digest::parse(stem.to_str()?));
                    if is_unfinished(&path)
                        || digest.is_some_and(|digest| !needed.contains(&digest))
                    {
                        fs::remove_file(path)?;
                        wharf_failpoint::pass("revision.forgotten");
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns the folder of the records.
pub(crate) fn records_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("plugins")
}

fn revisions_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("revisions")
}

fn record_file(state_dir: &Path, plugin: &str) -> PathBuf {
    records_dir(state_dir).join(format!("{plugin}.json"))
}

fn revision_files(state_dir: &Path, digest: Digest) -> (PathBuf, PathBuf) {
    let dir = revisions_dir(state_dir);
    (
        dir.join(format!("{digest}.wasm")),
        dir.join(format!("{digest}.toml")),
    )
}

fn locked(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
