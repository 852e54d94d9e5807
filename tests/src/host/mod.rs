//! A `wharf` process under test.

mod builder;
mod measures;

use std::{process::ExitStatus, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use reqwest::{Client, RequestBuilder};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process};
use serde_json::{Value, json};
use tokio::process::Child;

pub use rustix::process::Signal;

pub use self::builder::HostBuilder;
use crate::{
    ADMIN_TOKEN, Admin, Answer, Backend, LogLine, PATIENCE, Scrape, Site, eventually, log::Log,
};

/// A running host. Dropped, it is killed; in a failed test it prints what it logged.
#[derive(Debug)]
pub struct Host {
    site: Arc<Site>,
    child: Child,
    log: Log,
    base_url: String,
    client: Client,
    is_guarded: bool,
    has_plugins: bool,
}

impl Host {
    /// Starts a host with all roles and default settings at a site of its own.
    ///
    /// # Errors
    /// As [`Site::open`] and [`HostBuilder::start`].
    pub async fn start(backend: Backend) -> Result<Self> {
        Site::open(backend).await?.host().start().await
    }

    /// The site of the host.
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

    /// True if it asks every client for a key.
    pub fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    /// Makes a key of this organization with these scopes, such as `stores:write orders:write`.
    ///
    /// # Errors
    /// If the host refuses.
    pub async fn create_key(&self, organization: &str, scopes: &str) -> Result<String> {
        let body = json!({"organizationId": organization, "name": "test", "scopes": scopes});
        let request = self.request("POST", "/admin/keys").bearer_auth(ADMIN_TOKEN);
        let made = Answer::to(request.json(&body)).await?;
        let key = made.get("key");
        Ok(key.as_str().with_context(|| made.text.clone())?.to_owned())
    }

    /// The admin API of its plugins.
    pub fn admin(&self) -> Admin<'_> {
        Admin(self)
    }

    /// Waits until the process says that it listens, or, where it has no API, that it runs, and that its plugins are
    /// loaded.
    ///
    /// # Errors
    /// If it ends first or says neither.
    pub async fn wait_until_up(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + 3 * PATIENCE;
        while !self.is_up() {
            if let Some(status) = self.child.try_wait()? {
                self.log.complete().await;
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

    /// Waits until the process says that it listens, whatever it still loads.
    ///
    /// # Errors
    /// If it does not say so.
    pub async fn wait_until_listening(&mut self) -> Result<()> {
        let line = self.logged_message("listening").await?;
        let address = line.address().context("an address")?;
        self.base_url = format!("http://{address}");
        Ok(())
    }

    /// It listens or runs, and its plugins are loaded. A receiver of webhooks has none.
    fn is_up(&mut self) -> bool {
        let lines = self.log.lines();
        let said = |message| lines.iter().any(|line| line.message() == message);
        let address = lines.iter().find_map(LogLine::address);
        let is_up = (said("running") && said("the plugins are loaded"))
            || (address.is_some() && !self.has_plugins);
        drop(lines);
        if let Some(address) = address {
            self.base_url = format!("http://{address}");
        }
        is_up
    }

    /// Where the host serves its metrics, if it was told to by `METRICS_ADDR`: `http://127.0.0.1:<port>`.
    ///
    /// # Errors
    /// If it does not say so.
    pub async fn metrics_url(&self) -> Result<String> {
        self.told_url("metrics are served", "metricsAddress").await
    }

    /// Where the host serves its admin API, if it was told to by `ADMIN_ADDR`: `http://127.0.0.1:<port>`.
    ///
    /// # Errors
    /// If it does not say so.
    pub async fn admin_url(&self) -> Result<String> {
        self.told_url("the admin API is served", "adminAddress")
            .await
    }

    async fn told_url(&self, message: &str, field: &str) -> Result<String> {
        let line = self.logged_message(message).await?;
        let field = line.field(field);
        Ok(format!("http://{}", field.as_str().context("an address")?))
    }

    /// Scrapes its metrics at the API's port.
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

    /// Lets no file of the process grow, as if its disk were full; or any, with `None`. Started by
    /// [`HostBuilder::survive_file_limits`].
    ///
    /// # Errors
    /// If the process is gone.
    pub fn limit_files(&self, max_bytes: Option<u64>) -> Result<()> {
        let limit = Rlimit {
            current: max_bytes,
            maximum: getrlimit(Resource::Fsize).maximum,
        };
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        let limited = rustix::process::prlimit(pid, Resource::Fsize, limit);
        limited.map(drop).context("the limit cannot be set")
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
            Ok(status) => {
                self.log.complete().await;
                Ok(status?)
            }
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
