//! Where revisions and their lives are kept: in the state folder, or in memory for an engine without one.
//!
//! Every file is written beside its place, synced and renamed, and a life is written after the bytes that it names. So a
//! host that is killed at any step finds the old revision or the new one. Hosts that share the folder take turns by a
//! lock on a file, which the operating system gives back when its owner dies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Digest;
use crate::cache::{is_unfinished, write_beside};
use crate::life::Life;

/// A revision as it came: what its digest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) bytes: Arc<[u8]>,
    /// The text of the grants, if there are any.
    pub(crate) grants: Option<Arc<str>>,
}

impl Stored {
    /// The component's own digest, so that `sha256sum` finds it, or both digests' if there are grants.
    pub(crate) fn digest(&self) -> Digest {
        let component = self.component();
        self.grants.as_ref().map_or(component, |grants| {
            let both = [
                component.as_bytes().as_slice(),
                Digest::of(grants.as_bytes()).as_bytes(),
            ]
            .concat();
            Digest::of(&both)
        })
    }

    /// The digest of the component alone: what compiled code is kept under.
    pub(crate) fn component(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

pub(crate) enum Shelf {
    Memory(Mutex<Memory>),
    Folder(PathBuf),
}

#[derive(Default)]
pub(crate) struct Memory {
    lives: BTreeMap<String, Life>,
    stored: BTreeMap<Digest, Stored>,
}

/// The right to change lives. Dropping it gives the turn on.
pub(crate) struct Turn(#[allow(dead_code, reason = "held for its lock")] Option<fs::File>);

impl Shelf {
    pub(crate) fn open(state_dir: Option<&Path>) -> io::Result<Self> {
        let Some(dir) = state_dir else {
            return Ok(Self::Memory(Mutex::default()));
        };
        fs::create_dir_all(lives_dir(dir))?;
        fs::create_dir_all(revisions_dir(dir))?;
        Ok(Self::Folder(dir.to_owned()))
    }

    /// Waits for this host's turn. Held for the time of a few small files, never while something compiles.
    pub(crate) fn turn(&self) -> io::Result<Turn> {
        let Self::Folder(dir) = self else {
            return Ok(Turn(None));
        };
        let file = fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("lock"))?;
        file.lock()?;
        Ok(Turn(Some(file)))
    }

    /// Every life. One that cannot be read is told and left out: the others must not suffer for it.
    pub(crate) fn lives(&self) -> io::Result<BTreeMap<String, Life>> {
        let dir = match self {
            Self::Memory(memory) => return Ok(locked(memory).lives.clone()),
            Self::Folder(dir) => lives_dir(dir),
        };
        let mut lives = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(name) = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".json"))
            else {
                continue;
            };
            match fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
                Ok(life) => drop(lives.insert(name.to_owned(), life)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(plugin = name, %error, "the plugin's state cannot be read")
                }
            }
        }
        Ok(lives)
    }

    pub(crate) fn life(&self, plugin: &str) -> io::Result<Life> {
        let path = match self {
            Self::Memory(memory) => {
                return Ok(locked(memory)
                    .lives
                    .get(plugin)
                    .cloned()
                    .unwrap_or_default());
            }
            Self::Folder(dir) => life_file(dir, plugin),
        };
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Life::default()),
            Err(error) => Err(error),
        }
    }

    /// Makes this the plugin's life, for every host. The one moment at which a change happens.
    pub(crate) fn save(&self, plugin: &str, life: &Life) -> io::Result<()> {
        match self {
            Self::Memory(memory) => {
                locked(memory).lives.insert(plugin.to_owned(), life.clone());
                Ok(())
            }
            Self::Folder(dir) => write_beside(
                &life_file(dir, plugin),
                &[&serde_json::to_vec_pretty(life)?],
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
                if let Some(text) = &stored.grants {
                    write_beside(&grants, &[text.as_bytes()])?;
                }
                write_beside(&component, &[&stored.bytes])
            }
        }
    }

    /// A revision's bytes, if they are still what their name says.
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
        if stored.digest() == digest {
            return Ok(stored);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kept revision is not what its digest says",
        ))
    }

    /// Forgets every revision that no life needs, and what a host left unfinished that died. Only in this host's turn:
    /// nobody else is writing.
    pub(crate) fn prune(&self) -> io::Result<()> {
        let needed: BTreeSet<Digest> = self
            .lives()?
            .values()
            .flat_map(|life| life.needed().collect::<Vec<_>>())
            .collect();
        match self {
            Self::Memory(memory) => locked(memory)
                .stored
                .retain(|digest, _| needed.contains(digest)),
            Self::Folder(dir) => {
                for entry in fs::read_dir(revisions_dir(dir))?.chain(fs::read_dir(lives_dir(dir))?)
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

/// The folder that changes when a life does.
pub(crate) fn lives_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("plugins")
}

fn revisions_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("revisions")
}

fn life_file(state_dir: &Path, plugin: &str) -> PathBuf {
    lives_dir(state_dir).join(format!("{plugin}.json"))
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
