//! Compiled code on disk. Loading it runs it, so a file is believed only if it carries a code (HMAC-SHA-256) made with
//! this host's own key over the component's digest, the engine's settings and every byte. Anything else is compiled anew.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::component::Component;

use crate::Digest;

const TAG_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// How long code is kept that is not loaded.
const KEPT_UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a file may take to be written; an older one was left by a host that died.
const KEPT_UNFINISHED: Duration = Duration::from_secs(60 * 60);

/// The folder of compiled code and the key that its files are believed by.
pub(crate) struct Cache {
    dir: PathBuf,
    key: [u8; KEY_BYTES],
}

impl Cache {
    /// Opens the cache below `state_dir`; the first host to do so makes the key.
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        let dir = state_dir.join("compiled");
        fs::create_dir_all(&dir)?;
        Ok(Self {
            key: key(&state_dir.join("compiled.key"))?,
            dir,
        })
    }

    /// The component's code, if there is a file that can be believed.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, component: Digest) -> Option<Component> {
        let file = fs::read(self.path(engine, component)).ok()?;
        let (tag, code) = file.split_at_checked(TAG_BYTES)?;
        self.mac(engine, component, code).verify_slice(tag).ok()?;
        // Told by its time to those who clear out; if that fails, it is compiled once more some day.
        let _ = fs::File::open(self.path(engine, component))
            .and_then(|file| file.set_modified(SystemTime::now()));
        trusted_component(engine, code).ok()
    }

    /// Keeps the component's code. Losing it costs time only, so a failure is told and forgotten.
    pub(crate) fn store(&self, engine: &wasmtime::Engine, component: Digest, compiled: &Component) {
        let kept = compiled
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| {
                let tag = self.mac(engine, component, &code).finalize().into_bytes();
                write_beside(&self.path(engine, component), &[&tag, &code])
            });
        if let Err(error) = kept {
            tracing::warn!(%error, %component, "the compiled component could not be kept");
        }
    }

    /// Removes what nobody has loaded for a long time, of components and engines that are gone, and what was never
    /// finished. Best effort: it costs space only.
    pub(crate) fn forget_unused(&self) {
        let entries = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        for path in entries.map(|entry| entry.path()) {
            let most = if is_unfinished(&path) {
                KEPT_UNFINISHED
            } else {
                KEPT_UNUSED
            };
            let used = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let is_old = used.is_ok_and(|at| at.elapsed().unwrap_or_default() > most);
            if is_old && let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "compiled code that nobody uses could not be removed");
            }
        }
    }

    pub(crate) fn path(&self, engine: &wasmtime::Engine, component: Digest) -> PathBuf {
        self.dir
            .join(format!("{component}-{:016x}.code", compatibility(engine)))
    }

    fn mac(&self, engine: &wasmtime::Engine, component: Digest, code: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(component.as_bytes());
        mac.update(&compatibility(engine).to_be_bytes());
        mac.update(code);
        mac
    }
}

fn compatibility(engine: &wasmtime::Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Turns authenticated bytes into code.
#[allow(unsafe_code, reason = "wasmtime's only way to load compiled code")]
fn trusted_component(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: wasmtime asks that the bytes come unchanged from `Component::serialize`. The caller has verified, on
    // these very bytes in memory, a code that only a holder of this host's key can make, and this module is the only
    // one that makes it, over what `serialize` returned. Wasmtime itself refuses code of another version or machine.
    unsafe { Component::deserialize(engine, code) }
}

/// Whether this is a file of [`write_beside`] that has not come to its place.
pub(crate) fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tmp")
}

/// Writes a file beside its place and renames it, so that a reader sees the old bytes or the new and a mapped file is
/// never written over.
pub(crate) fn write_beside(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = parent.join(format!(".{:016x}.tmp", u64::from_be_bytes(random()?)));
    let written = write_new(&beside, parts).and_then(|()| {
        wharf_failpoint::pass("file.written");
        fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    wharf_failpoint::pass("file.renamed");
    fs::File::open(parent)?.sync_all()
}

fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = private().create_new(true).open(path)?;
    wharf_failpoint::pass("file.begun");
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Reads the key; the first host of several makes it. One that is short or readable by others is replaced, which makes
/// all older code worthless.
fn key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    for _ in 0..3 {
        match fs::read(path) {
            Ok(bytes) if is_private(path)? => match bytes.try_into() {
                Ok(key) => return Ok(key),
                Err(_) => fs::remove_file(path)?,
            },
            Ok(_) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        make_key(path)?;
    }
    Err(io::Error::other(
        "the key of the compiled code keeps changing",
    ))
}

/// A link instead of a rename: it does not replace the key of another host that was faster.
fn make_key(path: &Path) -> io::Result<()> {
    let beside = path.with_extension(format!("{:016x}.tmp", u64::from_be_bytes(random()?)));
    write_new(&beside, &[&random::<KEY_BYTES>()?])?;
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn is_private(path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    return Ok(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path)?.permissions()) & 0o077 == 0,
    );
    #[cfg(not(unix))]
    return path.try_exists();
}
