//! The watched folder. The operating system's events are only hints: the files are read after a hint, and every few
//! seconds anyway.

#![allow(
    clippy::disallowed_methods,
    reason = "files are read and written on the engine's own threads, which serve no requests"
)]

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

use super::deploy::Deployment;
use super::loading::{Loading, Pending};
use super::record::Record;
use super::registry::Registry;
use super::store::Stored;
use crate::contract::{
    fault::OperationError,
    grants::utf8,
    inside::read_inside,
    inspect::MAX_COMPONENT_BYTES,
    refusal::{Refusal, Stage},
};

const MAX_GRANTS_BYTES: usize = 256 * 1024;

/// Time that compiling a file may take before the others are judged: several times what an honest one needs.
const HEADSTART: Duration = Duration::from_secs(5);

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
    if let Watched {
        plugins: Some(plugins),
        records: Some(_),
    } = &watched
    {
        make_missing(&registry, plugins);
    }
    // Watched before they are read, so that no change falls between the two.
    let (mut plugins, mut records) = (Folder::new(watched.plugins), Folder::new(watched.records));
    plugins.watch();
    records.watch();
    let names = begin(&registry, &mut plugins);
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
            let names = begin(&registry, &mut plugins);
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

/// Makes a missing folder, so that it can be watched and files can be put into it. Not where plugins came from it before:
/// it may be a mount that is late, and the empty folder would withdraw them.
fn make_missing(registry: &Registry, dir: &Path) {
    let records = registry.store.records();
    let is_used = records.map_or(true, |records| records.values().any(Record::is_of_folder));
    if is_used || dir.exists() {
        return;
    }
    match fs::create_dir_all(dir) {
        Ok(()) => {
            tracing::info!(dir = %dir.display(), "the plugins folder was missing and was made")
        }
        // Found missing and told by the first look at it.
        Err(error) => tracing::warn!(%error, "the plugins folder cannot be made"),
    }
}

/// Lists the folder, if there is one, and withdraws the plugins whose files are gone.
fn begin(registry: &Registry, folder: &mut Folder) -> Vec<String> {
    let Some(dir) = &folder.dir else {
        return Vec::new();
    };
    let Listed { names, misnamed } = match list(dir) {
        Ok(listed) => listed,
        Err(error) => {
            registry.set_folder_problem(Some(format!("{}: {error}", dir.display())));
            // One that comes back is another folder, which the old watcher does not see.
            folder.watcher = None;
            return Vec::new();
        }
    };
    registry.set_folder_problem(None);
    // Removals first: a renamed file must not meet its own old name as a rival.
    let files = names.iter().chain(misnamed.iter().map(|(file, _)| file));
    registry.keep_unreadable(&files.cloned().collect::<Vec<_>>());
    for (file, refusal) in misnamed {
        registry.set_unreadable(&file, Some(refusal));
    }
    if let Err(error) = registry.withdraw_all_but(&names) {
        tracing::error!(%error, "plugins whose files are gone could not be withdrawn");
    }
    names
}

/// Reads files one after the other, and takes the mark of each back, if there are any, when it was judged. What compiles
/// for long goes behind all others.
async fn read_all(registry: &Registry, folder: &Folder, names: &[String], marks: Vec<Loading<'_>>) {
    let Some(dir) = &folder.dir else {
        return;
    };
    let mut marks = marks.into_iter();
    let mut deployment = Deployment::new(registry);
    let first = names.iter().map(|name| (name, marks.next(), Turn::First));
    let mut queue: VecDeque<_> = first.collect();
    while let Some((name, mark, turn)) = queue.pop_front() {
        let (folder, file) = (dir.to_owned(), name.clone());
        let refusal = match tokio::task::spawn_blocking(move || read(&folder, &file)).await {
            Ok(Ok(Some(stored)))
                if turn == Turn::First && !compiles_soon(registry, name, &stored).await =>
            {
                queue.push_back((name, mark, Turn::Last));
                continue;
            }
            Ok(Ok(Some(stored))) => deployment.offer(name, stored).await.err().map(refusal),
            // It was removed since the folder was listed.
            Ok(Ok(None)) => None,
            Ok(Err(refusal)) => Some(refusal),
            Err(_) => return,
        };
        registry.set_unreadable(name, refusal);
    }
    if let Err(error) = deployment.finish().await {
        tracing::error!(%error, "plugins that exchange their names could not be installed");
    }
}

/// A file's turn to be judged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Last,
}

/// Tells if a file is judged already, or needs a compiler for no longer than a headstart. One that does not is compiled
/// anew, with the whole limit, in its last turn.
async fn compiles_soon(registry: &Registry, plugin: &str, stored: &Stored) -> bool {
    let record = registry.store.record(plugin);
    record.is_ok_and(|record| record.folder == Some(stored.digest()))
        || registry.loader.compiles_within(stored, HEADSTART).await
}

fn refusal(error: OperationError) -> Refusal {
    match error {
        OperationError::Refused(refusal) => refusal,
        error => Refusal::new(
            Stage::Read,
            error.to_string(),
            "make the state folder writable",
        ),
    }
}

/// The files of the folder that are plugins by their names, sorted, so that every host settles a conflict alike.
#[derive(Default)]
struct Listed {
    names: Vec<String>,
    /// Files that look like plugins and cannot be any, by the names that they have.
    misnamed: Vec<(String, Refusal)>,
}

fn list(dir: &Path) -> io::Result<Listed> {
    let mut listed = Listed::default();
    for entry in fs::read_dir(dir)? {
        let file = entry?.file_name();
        let (stem, ending) = split_ending(&file);
        // Hidden files are unfinished ones.
        if stem.starts_with(b".") || !ending.eq_ignore_ascii_case(b".wasm") {
            continue;
        }
        match str::from_utf8(stem) {
            Ok(name) if ending == b".wasm" => listed.names.push(name.to_owned()),
            Ok(name) => {
                let file = file.to_string_lossy().into_owned();
                let fix = format!("rename it to {name}.wasm");
                listed
                    .misnamed
                    .push((file, misnamed("it does not end in `.wasm`", fix)));
            }
            Err(_) => {
                let file = file.as_bytes().escape_ascii().to_string();
                listed
                    .misnamed
                    .push((file, misnamed("its name is not UTF-8", "rename the file")));
            }
        }
    }
    listed.names.sort_unstable();
    Ok(listed)
}

/// Splits a file's name before the ending of a plugin's file, or what has its length.
fn split_ending(file: &OsStr) -> (&[u8], &[u8]) {
    const ENDING: usize = ".wasm".len();
    let bytes = file.as_bytes();
    bytes.split_at(bytes.len().saturating_sub(ENDING))
}

fn misnamed(cause: &str, fix: impl Into<String>) -> Refusal {
    Refusal::new(Stage::Read, cause, fix)
}

/// Reads a plugin: the component and, if there are any, its grants. `None` if it is gone.
fn read(dir: &Path, name: &str) -> Result<Option<Stored>, Refusal> {
    let unreadable = |error: io::Error| {
        let fix = "make it a readable file of at most 32 MiB inside the folder";
        Refusal::new(Stage::Read, error.to_string(), fix)
    };
    let file =
        |ending: &str, max| match read_inside(dir, Path::new(&format!("{name}.{ending}")), max) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => bytes.map(Some).map_err(unreadable),
        };
    let Some(bytes) = file("wasm", MAX_COMPONENT_BYTES)? else {
        return Ok(None);
    };
    let grants = file("toml", MAX_GRANTS_BYTES)?.map(utf8).transpose()?;
    Ok(Some(Stored::new(bytes, grants.as_deref())))
}
