//! A host before it is started: its command, environment and place.

use std::{
    collections::BTreeMap,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::process::Command;

use super::Host;
use crate::{ADMIN_TOKEN, Backend, Site, client, client_with, log::Log, wharf_binary};

/// Shared by all hosts with PostgreSQL, as it must be in production.
const ENCRYPTION_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A host to be started at a site.
#[derive(Debug)]
pub struct HostBuilder {
    site: Arc<Site>,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// What a shell does before it becomes the host.
    prelude: Option<String>,
}

impl HostBuilder {
    pub(crate) fn new(site: Arc<Site>) -> Self {
        let mut environment = BTreeMap::from([
            ("HOST".to_owned(), "127.0.0.1".to_owned()),
            ("PORT".to_owned(), "0".to_owned()),
            ("LOG_FORMAT".to_owned(), "json".to_owned()),
            // Nobody balances load between the hosts of a test.
            ("SHUTDOWN_DELAY".to_owned(), "0s".to_owned()),
            (
                "WEBHOOK_ALLOW_NETWORKS".to_owned(),
                "127.0.0.0/8,::1/128".to_owned(),
            ),
            ("WHARF_ADMIN_TOKEN".to_owned(), ADMIN_TOKEN.to_owned()),
            ("RUST_BACKTRACE".to_owned(), "1".to_owned()),
            (
                "WHARF_DATA_DIR".to_owned(),
                site.data_dir().display().to_string(),
            ),
            (
                "WHARF_PLUGINS_DIR".to_owned(),
                site.plugins_dir().display().to_string(),
            ),
        ]);
        for marketplace in ["etsy", "shopify", "amazon"] {
            let prefix = format!("MOCK_{}", marketplace.to_uppercase());
            environment.insert(format!("{prefix}_USER"), format!("{marketplace}_user"));
            environment.insert(format!("{prefix}_PASS"), format!("{marketplace}_pass"));
        }
        if site.backend() == Backend::Postgres {
            environment.insert("DATABASE_URL".to_owned(), site.database().url().to_owned());
            environment.insert("REDIS_URL".to_owned(), site.redis().url().to_owned());
            environment.insert("WHARF_ENCRYPTION_KEY".to_owned(), ENCRYPTION_KEY.to_owned());
        }
        Self {
            site,
            arguments: vec!["serve".to_owned()],
            environment,
            prelude: None,
        }
    }

    /// Gives the process so many file descriptors at most.
    #[must_use]
    pub fn descriptors(self, most: u32) -> Self {
        Self {
            prelude: Some(format!("ulimit -n {most}")),
            ..self
        }
    }

    /// Lets the process live on where a file would grow beyond a limit: it is told so, as of a full disk.
    #[must_use]
    pub fn survive_file_limits(self) -> Self {
        Self {
            prelude: Some("trap '' XFSZ".to_owned()),
            ..self
        }
    }

    /// Asks every client for a key. The host's own requests come with the admin token.
    #[must_use]
    pub fn guarded(self) -> Self {
        self.env("API_AUTH", "required")
    }

    fn is_guarded(&self) -> bool {
        let auth = self.environment.get("API_AUTH");
        auth.is_some_and(|auth| auth == "required")
    }

    /// Adds a role (`api`, `sync-worker`, ...); without any the host has all.
    #[must_use]
    pub fn role(self, role: &str) -> Self {
        self.argument("--role").argument(role)
    }

    /// Adds an argument of the command line.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Runs another command than `serve`, such as `["worker", "sync"]`.
    #[must_use]
    pub fn command(mut self, words: &[&str]) -> Self {
        self.arguments = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Sets a variable of the environment. Of the surroundings the host sees only PATH.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Takes a variable away, also one that this builder sets by itself.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Starts the process and waits until it says that it is up.
    ///
    /// # Errors
    /// If it ends instead; the message holds what it logged.
    pub async fn start(self) -> Result<Host> {
        let mut host = self.spawn()?;
        host.wait_until_up().await?;
        Ok(host)
    }

    /// Starts the process and waits for nothing.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub fn spawn(self) -> Result<Host> {
        let mut child = self
            .to_command()
            .kill_on_drop(true)
            .spawn()
            .context("wharf cannot be started")?;
        let log = Log::default();
        log.follow(child.stdout.take().context("no stdout")?);
        log.follow(child.stderr.take().context("no stderr")?);
        let is_guarded = self.is_guarded();
        Ok(Host {
            site: self.site,
            child,
            log,
            base_url: String::new(),
            client: if is_guarded {
                client_with(ADMIN_TOKEN)
            } else {
                client()
            },
            is_guarded,
            has_plugins: self
                .arguments
                .first()
                .is_none_or(|word| word != "mock-webhook"),
        })
    }

    /// Runs a command that ends by itself, and returns its status and all that it printed.
    ///
    /// # Errors
    /// If the program cannot be run or takes longer than a minute.
    pub async fn run(self) -> Result<(ExitStatus, String)> {
        let output = self.to_command().kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(60), output)
            .await
            .context("wharf does not end")??;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status, String::from_utf8_lossy(&text).into_owned()))
    }

    fn to_command(&self) -> Command {
        let mut command = match &self.prelude {
            None => Command::new(wharf_binary()),
            Some(prelude) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{prelude} && exec \"$@\""), "sh"]);
                shell.arg(wharf_binary());
                shell
            }
        };
        command.args(&self.arguments).current_dir(self.site.dir());
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&self.environment);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}
