//! A site: the databases and directories that its hosts share.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{Database, HostBuilder, RedisDatabase, binary::target_dir, repository};

/// The database of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// SQLite in the host's own process, one process only.
    Embedded,
    /// PostgreSQL, with Redis to ring.
    Postgres,
}

/// A place for one or more hosts: databases, a data directory and a folder of plugins, all its own.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    database: Option<Database>,
    redis: Option<RedisDatabase>,
}

impl Site {
    /// Makes a place on this backend with the plugins that ship with Wharf.
    ///
    /// # Errors
    /// If a server is not there, or the plugins are not built.
    pub async fn open(backend: Backend) -> Result<Arc<Self>> {
        let dir = tempfile::Builder::new().prefix("wharf-site-").tempdir()?;
        fs::create_dir(dir.path().join("plugins"))?;
        let mut site = Self {
            dir,
            database: None,
            redis: None,
        };
        site.copy_plugins()?;
        site.share_compiled_code()?;
        if backend == Backend::Postgres {
            site.database = Some(Database::create().await?);
            site.redis = Some(RedisDatabase::create().await?);
        }
        Ok(Arc::new(site))
    }

    /// A host to be set up and started here.
    pub fn host(self: &Arc<Self>) -> HostBuilder {
        HostBuilder::new(self.clone())
    }

    /// The kind of database of its hosts.
    pub fn backend(&self) -> Backend {
        if self.database.is_some() {
            Backend::Postgres
        } else {
            Backend::Embedded
        }
    }

    /// The PostgreSQL database.
    ///
    /// # Panics
    /// On the embedded backend.
    pub fn database(&self) -> &Database {
        self.database
            .as_ref()
            .expect("the embedded backend has no PostgreSQL database")
    }

    /// The Redis database.
    ///
    /// # Panics
    /// On the embedded backend.
    pub fn redis(&self) -> &RedisDatabase {
        self.redis
            .as_ref()
            .expect("the embedded backend has no Redis")
    }

    /// The folder that the hosts load plugins from. Tests may change it.
    pub fn plugins_dir(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// The data folder of its hosts.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The directory of everything here, and of the hosts' processes.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Puts a component into the folder of plugins as `<name>.wasm`, beside first and renamed, as operators should.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn install_plugin(&self, name: &str, component: &Path) -> Result<()> {
        let beside = self.plugins_dir().join(format!(".{name}.new"));
        fs::copy(component, &beside).with_context(|| component.display().to_string())?;
        Ok(fs::rename(
            beside,
            self.plugins_dir().join(format!("{name}.wasm")),
        )?)
    }

    /// Compiling the plugins takes seconds in a debug build: the hosts of all tests keep compiled code in one place in
    /// the target directory, and believe each other's by one key.
    fn share_compiled_code(&self) -> Result<()> {
        let shared = target_dir().join("tests-compiled");
        let engine = self.data_dir().join("engine");
        fs::create_dir_all(shared.join("code"))?;
        // As a host makes it: it warns of a data folder that others may look into.
        let owners = &mut fs::DirBuilder::new();
        owners.recursive(true).mode(0o700).create(&engine)?;
        let key = shared.join("key");
        if !key.exists() {
            let mut made = tempfile::NamedTempFile::new_in(&shared)?;
            made.write_all(&std::array::from_fn::<u8, 32, _>(|_| fastrand::u8(..)))?;
            // Of two tests that make it, the first is believed.
            let _ = made.persist_noclobber(&key);
        }
        fs::copy(key, engine.join("compiled.key"))?;
        Ok(symlink(shared.join("code"), engine.join("compiled"))?)
    }

    fn copy_plugins(&self) -> Result<()> {
        let mut found = 0;
        for entry in fs::read_dir(repository().join("plugins"))? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "wasm")
            {
                let name = path
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                self.install_plugin(&name, &path)?;
                found += 1;
            }
        }
        anyhow::ensure!(
            found > 0,
            "plugins/*.wasm are missing: `cargo xtask plugins` builds them"
        );
        Ok(())
    }
}
