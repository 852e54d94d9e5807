//! A `wharf` process under measurement.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{site::Site, usage};

/// A running process; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// The address that it listens on, if it does.
    address: Option<SocketAddr>,
}

impl Process {
    /// Starts `wharf` at a site, with defaults wherever the site does not demand otherwise, and waits until it is up.
    /// Its log goes to a file, as in production.
    pub(crate) async fn wharf(site: &Site, words: &[&str]) -> Result<Self> {
        Self::start(site.dir(), words, site.settings()).await
    }

    /// The same in a folder of its own, with these settings.
    pub(crate) async fn start(
        dir: &Path,
        words: &[&str],
        settings: impl Iterator<Item = (&'static str, String)>,
    ) -> Result<Self> {
        let log = dir.join(format!("{}.log", words.join("-")));
        let mut command = Command::new(built("wharf")?);
        command
            .args(words)
            .env_clear()
            .envs(settings)
            .current_dir(dir);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let mut process = Self {
            child: spawn(&mut command)?,
            address: None,
        };
        process.wait_until_up(&log).await?;
        Ok(process)
    }

    /// Starts the bare handler.
    pub(crate) async fn bare() -> Result<Self> {
        let mut command = Command::new(built("wharf-bench")?);
        let mut child = spawn(
            command
                .arg("--bare")
                .stdin(Stdio::null())
                .stdout(Stdio::piped()),
        )?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let address = lines
            .next_line()
            .await?
            .context("the bare handler ended")?
            .parse()?;
        Ok(Self {
            child,
            address: Some(address),
        })
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.address.context("the process listens nowhere")
    }

    /// The processor time that it has used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        usage::cpu_of(self.child.id().context("the process has ended")?)
    }

    async fn wait_until_up(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = fs::read_to_string(log)?;
            let lines: Vec<Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            let line = |message| lines.iter().find(|line| line["message"] == message);
            // What is measured must not share the processor with a compiler.
            if line("running").is_some() && line("the plugins are loaded").is_some() {
                let address = line("listening").and_then(|line| line["address"].as_str());
                self.address = address.map(str::parse).transpose()?;
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("wharf does not come up:\n{text}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{command:?} cannot be started"))
}

/// A program that was built with this one.
fn built(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.is_file() {
        bail!(
            "{} is missing: `cargo xtask bench` builds it",
            path.display()
        );
    }
    Ok(path)
}
