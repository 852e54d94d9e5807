//! A `wharf` process under test.

use std::{
    collections::BTreeMap,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use reqwest::{Client, RequestBuilder};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

pub use rustix::process::Signal;

use crate::{
    ADMIN_TOKEN, Admin, Answer, Backend, LogLine, PATIENCE, Scrape, Site, client, eventually,
    log::Log, wharf_binary,
};

/// Shared by all hosts with PostgreSQL, as it must be in production.
const ENCRYPTION_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A host to be started at a site.
#[derive(Debug)]
pub struct HostBuilder {
    site: Arc<Site>,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    descriptors: Option<u32>,
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
            descriptors: None,
        }
    }

    /// Gives the process so many file descriptors at most.
    #[must_use]
    pub fn descriptors(self, most: u32) -> Self {
        Self {
            descriptors: Some(most),
            ..self
        }
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
        Ok(Host {
            site: self.site,
            child,
            log,
            base_url: String::new(),
            client: client(),
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
        let mut command = match self.descriptors {
            None => Command::new(wharf_binary()),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &most.to_string()]);
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

/// A running host. Dropped, it is killed; in a failed test it prints what it logged.
#[derive(Debug)]
pub struct Host {
    site: Arc<Site>,
    child: Child,
    log: Log,
    base_url: String,
    client: Client,
}

impl Host {
    /// Starts a host with all roles and default settings at a site of its own.
    ///
    /// # Errors
    /// As [`Site::open`] and [`HostBuilder::start`].
    pub async fn start(backend: Backend) -> Result<Self> {
        Site::open(backend).await?.host().start().await
    }

    /// Where the host is at home.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end. Empty if it has no API or was not waited for.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The client that this host's answers come by.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A request to a path, to be completed and sent by [`Answer::to`].
    ///
    /// # Panics
    /// If the method is none.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(
            method.parse().expect("a method"),
            format!("{}{path}", self.base_url),
        )
    }

    /// Sends these bytes as `application/json` to a path.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn post_bytes(&self, path: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
        Answer::to(
            self.request("POST", path)
                .header("content-type", "application/json")
                .body(body.into()),
        )
        .await
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        Answer::to(self.client.get(format!("{}{path}", self.base_url))).await
    }

    /// Sends a JSON body to a path.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        Answer::to(
            self.client
                .post(format!("{}{path}", self.base_url))
                .json(body),
        )
        .await
    }

    /// What an operator does with its plugins.
    pub fn admin(&self) -> Admin<'_> {
        Admin(self)
    }

    /// Waits until the process says that it listens, or, where it has no API, that it runs.
    ///
    /// # Errors
    /// If it ends first or says neither.
    pub async fn wait_until_up(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + 3 * PATIENCE;
        while !self.is_up() {
            if let Some(status) = self.child.try_wait()? {
                bail!("wharf ended with {status}:\n{}", self.logged());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("wharf does not come up:\n{}", self.logged());
            }
            #[allow(clippy::disallowed_methods, reason = "waits for a process and its log")]
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn is_up(&mut self) -> bool {
        if let Some(address) = self.log.lines().iter().find_map(LogLine::address) {
            self.base_url = format!("http://{address}");
            return true;
        }
        self.log
            .lines()
            .iter()
            .any(|line| line.message() == "running")
    }

    /// Where the host serves its metrics, if it was told to by `METRICS_ADDR`: `http://127.0.0.1:<port>`.
    ///
    /// # Errors
    /// If it does not say so.
    pub async fn metrics_url(&self) -> Result<String> {
        let line = self.logged_message("metrics are served").await?;
        Ok(format!(
            "http://{}",
            line.field("metricsAddress")
                .as_str()
                .context("an address")?
        ))
    }

    /// What it tells Prometheus at its API.
    ///
    /// # Errors
    /// As [`Scrape::from`].
    pub async fn scrape(&self) -> Result<Scrape> {
        Scrape::from(&self.base_url).await
    }

    /// The lines that the host has logged so far.
    pub fn log(&self) -> Vec<LogLine> {
        self.log.lines().clone()
    }

    /// Waits for a line with this message, and returns the first.
    ///
    /// # Errors
    /// If it does not come.
    pub async fn logged_message(&self, message: &str) -> Result<LogLine> {
        let found = || async {
            self.log
                .lines()
                .iter()
                .find(|line| line.message() == message)
                .cloned()
        };
        eventually(&format!("the host logs {message}"), PATIENCE, found).await
    }

    /// All that the host has logged so far, as text.
    pub fn logged(&self) -> String {
        self.log
            .lines()
            .iter()
            .map(|line| format!("{}\n", line.text))
            .collect()
    }

    /// The process id.
    ///
    /// # Panics
    /// If the process has been waited for.
    pub fn pid(&self) -> u32 {
        self.child
            .id()
            .expect("the host was waited for and has no process id any more")
    }

    /// Sends a signal: `TERM` asks it to stop, `STOP` and `CONT` pause it.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?).context("a process id above zero")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Sets how many file descriptors the process may have, in the middle of its work. Below what it has it gets no more.
    ///
    /// # Errors
    /// If the process is gone, or the limit would be raised above what it began with.
    pub fn limit_descriptors(&self, most: u64) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        let limit = rustix::process::prlimit(
            pid,
            Resource::Nofile,
            Rlimit {
                current: Some(most),
                maximum: getrlimit(Resource::Nofile).maximum,
            },
        );
        limit.map(drop).context("the limit cannot be set")
    }

    /// Ends the process on the spot (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks the process to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// If it has not ended after a minute.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    /// Waits for the process's end.
    ///
    /// # Errors
    /// If it has not ended after a minute.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        match tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("wharf does not end:\n{}", self.logged()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- logged by {}\n{}---", self.base_url, self.logged());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signal;
    use crate::{Backend, Host, Site, on_every_backend};

    async fn serves_pauses_and_stops(backend: Backend) {
        let mut host = Host::start(backend).await.expect("a host");
        assert_eq!(host.get("/healthz").await.expect("an answer").status, 200);
        host.signal(Signal::STOP).expect("paused");
        host.signal(Signal::CONT).expect("resumed");
        assert_eq!(host.get("/readyz").await.expect("an answer").status, 200);
        assert!(
            host.stop().await.expect("stopped").success(),
            "{}",
            host.logged()
        );
    }

    async fn tells_why_it_does_not_start(backend: Backend) {
        let site = Site::open(backend).await.expect("a site");
        let error = site
            .host()
            .env("REDIS_URL", "nonsense")
            .start()
            .await
            .expect_err("a wrong setting");
        assert!(error.to_string().contains("REDIS_URL"), "{error}");
    }

    on_every_backend!(serves_pauses_and_stops, tells_why_it_does_not_start);

    #[test]
    fn hosts_of_one_site_share_their_database() {
        crate::run(async {
            let site = Site::open(Backend::Postgres).await.expect("a site");
            let mut one = site.host().role("api").start().await.expect("a host");
            let two = site.host().role("api").start().await.expect("another");
            let worker = site
                .host()
                .command(&["worker", "sync"])
                .start()
                .await
                .expect("a worker");
            assert_eq!(worker.base_url(), "", "it has no API");
            let store = serde_json::json!({"organizationId": "o", "marketplace": "etsy", "externalStoreId": "e",
                "storeName": "s", "accessToken": "t", "currency": "USD"});
            let answer = one
                .post("/stores/register", &store)
                .await
                .expect("an answer");
            one.kill().await.expect("killed");
            assert_eq!(
                two.post("/stores/register", &store)
                    .await
                    .expect("an answer")
                    .json(),
                answer.json()
            );
            let (status, printed) = site
                .host()
                .command(&["schema"])
                .run()
                .await
                .expect("the schema");
            assert!(
                status.success() && printed.contains("create table"),
                "{printed}"
            );
        })
    }
}
