//! A private Redis for a test, on a free port, gone with the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use wharf_queue::{Doorbell, Queue, Settings, Woken};

/// How soon work must be heard of again after any fault.
pub(crate) const RESUME: Duration = Duration::from_secs(2);

/// A redis-server process that keeps its port over [`Server::kill`] and [`Server::start`].
pub(crate) struct Server {
    port: u16,
    dir: TempDir,
    child: Option<Child>,
}

impl Server {
    /// A server that has been given a port but does not run yet.
    pub(crate) fn stopped() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self {
            port,
            dir: tempfile::tempdir()?,
            child: None,
        })
    }

    pub(crate) async fn running() -> Result<Self> {
        let mut server = Self::stopped()?;
        server.start().await?;
        Ok(server)
    }

    pub(crate) async fn start(&mut self) -> Result<()> {
        let child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--enable-debug-command",
                "local",
            ])
            .args(["--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .context(
                "these tests need `redis-server` in PATH (Debian: apt-get install redis-server)",
            )?;
        self.child = Some(child);
        let begun = Instant::now();
        while self.ask(&["PING"]).await.is_err() {
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "redis-server did not come up on port {}",
                self.port
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// SIGKILL: nothing is said to clients and nothing is kept.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn doorbell(&self) -> Result<Doorbell> {
        Ok(Doorbell::connect(&self.url(), Settings::default())?)
    }

    /// Runs one command on a connection of its own, waiting for the answer without limit.
    pub(crate) async fn ask(&self, words: &[&str]) -> Result<redis::Value> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let client = redis::Client::open(self.url())?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut command = redis::cmd(words[0]);
        Ok(command
            .arg(&words[1..])
            .query_async(&mut connection)
            .await?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What one wait of at most two seconds hears.
pub(crate) async fn heard(listener: &mut wharf_queue::Listener) -> Vec<String> {
    match listener.wait(RESUME).await {
        Woken::Rung(jobs) => jobs,
        Woken::Timeout => Vec::new(),
    }
}

/// Rings for ever new jobs, as a sweeper does, until one of them is heard; how long that took.
pub(crate) async fn resumes(doorbell: &Doorbell, listener: &mut wharf_queue::Listener) -> Duration {
    let begun = Instant::now();
    for round in 0.. {
        assert!(
            begun.elapsed() < RESUME,
            "nothing heard for {RESUME:?}: {:?}",
            doorbell.counters()
        );
        doorbell.ring(
            Queue::SyncStore,
            &format!("again-{}-{round}", begun.elapsed().as_nanos()),
        );
        if let Woken::Rung(_) = listener.wait(Duration::from_millis(100)).await {
            break;
        }
    }
    begun.elapsed()
}
