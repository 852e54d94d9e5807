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

use super::loading::{Loading, Pending};
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

/// Follows the folders for ever. `served` fires when all revisions that need no compiler serve, `loaded` when
/// everything was read for the first time.
pub(crate) async fn follow(
    registry: Arc<Registry>,
    watched: Watched,
    served: oneshot::Sender<()>,
    loaded: watch::Sender<bool>,
) {
    // Watched before they are read, so that no change falls between the two.
    let (mut plugins, mut records) = (Folder::new(watched.plugins), Folder::new(watched.records));
    plugins.watch();
    records.watch();
    let names = begin(&registry, &plugins);
    // Marked from the start: nobody must take a plugin whose turn has not come for one that is not there.
    let marks: Vec<_> = names.iter().map(|name| registry.loading(name)).collect();
    let uncompiled = serve_compiled(&registry).await;
    // Nobody waits if the start was given up, or took too long.
    let _ = served.send(());
    let (files_read, are_read) = oneshot::channel();
    let (records_settled, are_settled) = oneshot::channel();
    // Apart from each other: a file that compiles for a minute must not hold up another host's rollback.
    let follow_plugins = async {
        read_all(&registry, &plugins, &names, marks).await;
        let _ = files_read.send(());
        loop {
            plugins.changed().await;
            let names = begin(&registry, &plugins);
            read_all(&registry, &plugins, &names, Vec::new()).await;
        }
    };
    let follow_records = async {
        for pending in uncompiled {
            tell(registry.settle(pending).await);
        }
        let _ = records_settled.send(());
        loop {
            records.changed().await;
            tell(registry.reconcile().await);
        }
    };
    let load_retained = async {
        let _ = tokio::join!(are_read, are_settled);
        loaded.send_replace(true);
        registry.load_retained().await;
    };
    tokio::join!(follow_plugins, follow_records, load_retained);
}

/// Lets all revisions serve that need no compiler, and returns the rest.
async fn serve_compiled(registry: &Registry) -> Vec<Pending<'_>> {
    let pending = registry.pending().unwrap_or_else(|error| {
        tell(Err(error));
        Vec::new()
    });
    let (compiled, rest): (Vec<_>, Vec<_>) = pending
        .into_iter()
        .partition(|pending| registry.is_compiled(pending));
    // All at once, so that one that describes itself slowly does not hold up the others.
    let settled = compiled.into_iter().map(|pending| registry.settle(pending));
    let settled = futures::future::join_all(settled).await;
    settled.into_iter().for_each(tell);
    rest
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

/// Lists the folder, if there is one, and withdraws the plugins whose files are gone.
fn begin(registry: &Registry, folder: &Folder) -> Vec<String> {
    let Some(dir) = &folder.dir else {
        return Vec::new();
    };
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

/// Reads files one after the other, and takes the mark of each back, if there are any, when it was judged.
async fn read_all(registry: &Registry, folder: &Folder, names: &[String], marks: Vec<Loading<'_>>) {
    let Some(dir) = &folder.dir else {
        return;
    };
    let mut marks = marks.into_iter();
    for name in names {
        let _mark = marks.next();
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
