//! Compiled code on disk. Loading it runs it, so a file is believed only if it carries a MAC (HMAC-SHA-256) made with
//! this host's own key over the component's digest, the engine's settings and every byte. Anything else is compiled
//! anew.

#![allow(
    clippy::disallowed_methods,
    reason = "files are read and written on the engine's own threads, which serve no requests"
)]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::component::Component;

use super::files::{is_unfinished, random, write_beside, write_new};
use crate::contract::digest::Digest;

const TAG_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// Time that code is kept without being loaded.
const KEPT_UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Time that a file may take to be written. An older one was left by a host that died.
const KEPT_UNFINISHED: Duration = Duration::from_secs(60 * 60);

/// The folder of compiled code, and the key that authenticates its files.
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

    /// Loads the component's code, if there is an authentic file.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, component: Digest) -> Option<Component> {
        // Read into memory, not mapped: the bytes that are verified are the bytes that run.
        let file = fs::read(self.path(engine, component)).ok()?;
        let (tag, code) = file.split_at_checked(TAG_BYTES)?;
        self.mac(engine, component, code).verify_slice(tag).ok()?;
        // Marks the file as used for `purge_unused`. If that fails, it is compiled once more some day.
        let _ = fs::File::open(self.path(engine, component))
            .and_then(|file| file.set_modified(SystemTime::now()));
        trusted_component(engine, code).ok()
    }

    /// Tells if there is code of the component, authentic or not.
    pub(crate) fn holds(&self, engine: &wasmtime::Engine, component: Digest) -> bool {
        self.path(engine, component).exists()
    }

    /// Keeps the component's code. Losing it only costs time, so a failure is logged and that is all.
    pub(crate) fn store(&self, engine: &wasmtime::Engine, component: Digest, code: &[u8]) {
        let tag = self.mac(engine, component, code).finalize().into_bytes();
        let kept = write_beside(&self.path(engine, component), &[&tag, code]);
        if let Err(error) = kept {
            tracing::warn!(%error, %component, "the compiled component could not be kept");
        }
    }

    /// Removes code that nobody has loaded for a long time, and files that were never finished. Best effort: they only
    /// cost space.
    pub(crate) fn purge_unused(&self) {
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
            // A clock that was set back gives no age; then the file stays.
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
        // Code of other settings would be authentic and still wrong.
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

/// Turns code into a component that runs: code that was authenticated, or that a compiler of this host handed over.
#[allow(unsafe_code, reason = "wasmtime's only way to load compiled code")]
pub(super) fn trusted_component(
    engine: &wasmtime::Engine,
    code: &[u8],
) -> wasmtime::Result<Component> {
    // SAFETY: wasmtime asks that the bytes come unchanged from its own compiler. There are two callers. `load` has
    // verified, on these very bytes in memory, a code that only a holder of this host's key can make, and this module
    // makes it over what the second caller has. That one got the bytes from `CompileQueue`: from a thread of this
    // process, or through the pipe of a child that this process started from its own program, that nobody else can
    // write to, and that ended well. Wasmtime itself refuses code of another version, machine or settings.
    unsafe { Component::deserialize(engine, code) }
}

/// Reads the key; the first host of several makes it. One that is short or readable by others is replaced, which makes
/// all older code worthless.
fn key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    // More than one host may replace a bad key at the same time.
    for _ in 0..3 {
        match fs::read(path) {
            // Others who can read the key can forge code.
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

/// Makes the key. A link instead of a rename does not replace the key of another host that was faster.
fn make_key(path: &Path) -> io::Result<()> {
    let beside = path.with_extension(format!("{:016x}.tmp", u64::from_be_bytes(random()?)));
    write_new(&beside, &[&random::<KEY_BYTES>()?])?;
    let linked = fs::hard_link(&beside, path);
    // Two names for one file: the link stays.
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
