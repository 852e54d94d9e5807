//! The watched folder. The operating system's events are hints: what counts is the content of the files, which is read
//! after a hint and every few seconds besides.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::inspect::MAX_COMPONENT_BYTES;
use crate::registry::Registry;
use crate::{Refusal, Stage};

/// The folder is read even if no hint came: network file systems give none.
const RESCAN: Duration = Duration::from_secs(5);
/// A hint is followed by this much quiet before the folder is read: a file is written in many steps ...
const QUIET: Duration = Duration::from_millis(100);
/// ... but never longer than two of these, so that a file that is written all the time is read as well.
const QUIETS: u32 = 2;

/// Follows the folder for ever. `ready` is told when it was read for the first time.
pub(crate) async fn follow(registry: Arc<Registry>, dir: PathBuf, ready: oneshot::Sender<()>) {
    let hint = Arc::new(Notify::new());
    // Watched before it is read, so that nothing falls between.
    let mut watcher = watch(&dir, &hint);
    scan(&registry, &dir).await;
    // Nobody waits if the start was given up.
    let _ = ready.send(());
    loop {
        if timeout(RESCAN, hint.notified()).await.is_ok() {
            for _ in 0..QUIETS {
                if timeout(QUIET, hint.notified()).await.is_err() {
                    break;
                }
            }
        }
        if watcher.is_none() {
            watcher = watch(&dir, &hint);
        }
        scan(&registry, &dir).await;
    }
}

fn watch(dir: &Path, hint: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let hint = hint.clone();
    let ring = move |event: notify::Result<notify::Event>| {
        // Reading the folder is an event too; following it would never end.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            hint.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(ring).ok()?;
    watcher.watch(dir, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

async fn scan(registry: &Registry, dir: &Path) {
    let (folder, names) = (dir.to_owned(), dir.to_owned());
    let listed = tokio::task::spawn_blocking(move || list(&names)).await;
    let files = match listed {
        Ok(Ok(files)) => files,
        Ok(Err(error)) => return registry.set_folder_problem(Some(format!("{}: {error}", dir.display()))).await,
        Err(_) => return,
    };
    registry.set_folder_problem(None).await;
    registry.keep_only(&files).await;
    for name in files {
        let path = folder.join(format!("{name}.wasm"));
        let root = folder.clone();
        match tokio::task::spawn_blocking(move || read(&root, &path)).await {
            // The verdict is kept and reported by the registry.
            Ok(Ok(bytes)) => drop(registry.offer(&name, bytes.into()).await),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => {
                let fix = "make it a readable file of at most 32 MiB inside the folder";
                registry.unreadable(&name, Refusal::new(Stage::Read, error.to_string(), fix)).await;
            }
            Err(_) => return,
        }
    }
}

/// The names of all plugins in the folder, sorted, so that every host settles a conflict alike.
fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(stem) = name.to_string_lossy().strip_suffix(".wasm").filter(|stem| !stem.starts_with('.')) {
            names.push(stem.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads one file. A link is followed only inside the folder, as mounted configuration needs it.
fn read(dir: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let target = path.canonicalize()?;
    if !target.starts_with(dir.canonicalize()?) {
        return Err(io::Error::other("it is a link that leads out of the folder"));
    }
    if !fs::metadata(&target)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let most = u64::try_from(MAX_COMPONENT_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    fs::File::open(target)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(io::Error::other("it is larger than 32 MiB"));
    }
    Ok(bytes)
}
