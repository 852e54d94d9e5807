//! The watched folder. The operating system's events are only hints: the files are read after a hint, and every few
//! seconds anyway.

#![allow(
    clippy::disallowed_methods,
    reason = "files are read and written on the engine's own threads, which serve no requests"
)]

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use rustix::fs::{Mode, OFlags};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

use super::loading::Loading;
use super::record::Source;
use super::registry::Registry;

use super::store::Stored;
use crate::contract::{
    fault::OperationError,
    inspect::MAX_COMPONENT_BYTES,
    refusal::{Refusal, Stage},
};

const MAX_GRANTS_BYTES: usize = 256 * 1024;

/// The folder is read even if no hint came: network file systems give none.
const RESCAN: Duration = Duration::from_secs(5);
/// A hint must be followed by this much quiet before the folder is read: a file is written in many steps ...
const QUIET: Duration = Duration::from_millis(100);
/// ... but never longer than two of these, so that a file that is written all the time is read as well.
const MAX_QUIETS: u32 = 2;

/// The folders that are followed: the plugins, and the records that other hosts change.
pub(crate) struct Watched {
    pub(crate) plugins: Option<PathBuf>,
    pub(crate) records: Option<PathBuf>,
}

/// Follows the folders for ever. `served` fires when all revisions that need no compiler serve, `loaded` when everything
/// was read for the first time.
pub(crate) async fn follow(
    registry: Arc<Registry>,
    watched: Watched,
    served: oneshot::Sender<()>,
    loaded: watch::Sender<bool>,
) {
    let Watched { plugins, records } = watched;
    // Watched before they are read, so that no change falls between the two.
    let (mut plugins, mut records) = (Folder::new(plugins), Folder::new(records));
    plugins.watch();
    records.watch();
    load_all(&registry, plugins.dir.as_deref(), served).await;
    // Fails if the start was given up.
    loaded.send_replace(true);
    let retained = registry.clone();
    tokio::spawn(async move { retained.load_retained().await });
    // Apart from each other: a file that compiles for a minute must not hold up another host's rollback.
    let follow_plugins = async {
        loop {
            plugins.changed().await;
            if let Some(dir) = &plugins.dir {
                let names = begin(&registry, dir);
                read_all(&registry, dir, names.iter().map(|name| (name, None))).await;
            }
        }
    };
    let follow_records = async {
        loop {
            records.changed().await;
            tell(registry.reconcile().await);
        }
    };
    tokio::join!(follow_plugins, follow_records);
}

/// Loads the revisions that were compiled before, then everything else.
async fn load_all(registry: &Registry, dir: Option<&Path>, served: oneshot::Sender<()>) {
    let names = dir.map(|dir| begin(registry, dir)).unwrap_or_default();
    let pending = registry.pending().unwrap_or_else(|error| {
        tell(Err(error));
        Vec::new()
    });
    // Marked from the start: nobody must take a plugin whose turn has not come for one that is not there.
    let marked: Vec<_> = names
        .iter()
        .map(|name| (name, Some(registry.loading(name))))
        .collect();
    let (compiled, rest): (Vec<_>, Vec<_>) = pending
        .into_iter()
        .partition(|pending| registry.is_compiled(pending));
    // All at once, so that one that describes itself slowly delays itself alone.
    let settled =
        futures::future::join_all(compiled.into_iter().map(|pending| registry.settle(pending)));
    settled.await.into_iter().for_each(tell);
    // Nobody waits if the start was given up, or took too long.
    let _ = served.send(());
    let files = async {
        if let Some(dir) = dir {
            read_all(registry, dir, marked.into_iter()).await;
        }
    };
    let uncompiled = async {
        for pending in rest {
            tell(registry.settle(pending).await);
        }
    };
    tokio::join!(files, uncompiled);
}

fn tell(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "the plugins' state cannot be read; what serves goes on");
    }
}

/// A folder that is followed, if there is one.
struct Folder {
    dir: Option<PathBuf>,
    hint: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
}

impl Folder {
    fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            hint: Arc::default(),
            watcher: None,
        }
    }

    /// Watches it if it is not watched yet: a folder may come later.
    fn watch(&mut self) {
        if let (None, Some(dir)) = (&self.watcher, &self.dir) {
            self.watcher = watch_folder(dir, &self.hint);
        }
    }

    /// Waits until it is to be read again.
    async fn changed(&mut self) {
        // Either a hint or the time is up: both lead to the same look.
        if timeout(RESCAN, self.hint.notified()).await.is_ok() {
            for _ in 0..MAX_QUIETS {
                if timeout(QUIET, self.hint.notified()).await.is_err() {
                    break;
                }
            }
        }
        self.watch();
    }
}

fn watch_folder(dir: &Path, hint: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let hint = hint.clone();
    let ring = move |event: notify::Result<notify::Event>| {
        // Reading the folder is an event too; following it would never end.
        // Errors of the watcher are no matter: the rescan finds everything.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            hint.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(ring).ok()?;
    watcher.watch(dir, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

/// Lists the folder and withdraws the plugins whose files are gone.
fn begin(registry: &Registry, dir: &Path) -> Vec<String> {
    let names = match list(dir) {
        Ok(names) => names,
        Err(error) => {
            registry.set_folder_problem(Some(format!("{}: {error}", dir.display())));
            return Vec::new();
        }
    };
    registry.set_folder_problem(None);
    // Removals first: a renamed file must not meet its own old name as a rival.
    registry.keep_unreadable(&names);
    if let Err(error) = registry.withdraw_all_but(&names) {
        tracing::error!(%error, "plugins whose files are gone could not be withdrawn");
    }
    names
}

/// Reads files one after the other, and takes the mark of each back when it was judged.
async fn read_all<'a>(
    registry: &Registry,
    dir: &Path,
    names: impl Iterator<Item = (&'a String, Option<Loading<'a>>)>,
) {
    for (name, _mark) in names {
        let (folder, file) = (dir.to_owned(), name.clone());
        let refusal = match tokio::task::spawn_blocking(move || read(&folder, &file)).await {
            Ok(Ok(stored)) => match registry.offer(name, stored, Source::Folder, "folder").await {
                // The verdict on what could be read is kept with the plugin's record.
                Ok(_) => None,
                Err(OperationError::Refused(refusal)) if refusal.stage > Stage::Read => None,
                Err(OperationError::Refused(refusal)) => Some(refusal),
                Err(error) => Some(Refusal::new(
                    Stage::Read,
                    error.to_string(),
                    "make the state folder writable",
                )),
            },
            // It was removed since the folder was listed.
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Ok(Err(error)) => {
                let fix = "make it a readable file of at most 32 MiB inside the folder";
                Some(Refusal::new(Stage::Read, error.to_string(), fix))
            }
            Err(_) => return,
        };
        registry.set_unreadable(name, refusal);
    }
}

/// Returns the names of all plugins in the folder, sorted, so that every host settles a conflict alike.
fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(stem) = name
            .to_string_lossy()
            .strip_suffix(".wasm")
            // Hidden files are unfinished ones.
            .filter(|stem| !stem.starts_with('.'))
        {
            names.push(stem.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a plugin: the component and, if there are any, its grants.
fn read(dir: &Path, name: &str) -> io::Result<Stored> {
    let bytes = read_file(dir, &dir.join(format!("{name}.wasm")), MAX_COMPONENT_BYTES)?;
    let grants = match read_file(dir, &dir.join(format!("{name}.toml")), MAX_GRANTS_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        grants => Some(String::from_utf8_lossy(&grants?).into()),
    };
    Ok(Stored {
        bytes: bytes.into(),
        grants,
    })
}

/// Reads one file. A link is followed only inside the folder, as mounted configuration needs it.
fn read_file(dir: &Path, path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let target = path.canonicalize()?;
    // A link out of the folder could read any file of the host.
    if !target.starts_with(dir.canonicalize()?) {
        return Err(io::Error::other(
            "it is a link that leads out of the folder",
        ));
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
fn open(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
