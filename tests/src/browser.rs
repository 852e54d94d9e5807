//! A real browser, asked to open pages and run what is in them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use thirtyfour::{ChromiumLikeCapabilities, DesiredCapabilities, WebDriver};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::PATIENCE;

/// The names that the browser goes by, the first that there is.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Chromium without a window.
#[derive(Debug)]
pub struct Browser {
    driver: WebDriver,
    // Ended when they are dropped, in this order.
    _server: Child,
    _home: TempDir,
}

impl Browser {
    /// Starts it; `None` where Chromium or its driver is missing. It looks the names up as `names` says, such as
    /// `MAP evil.test 127.0.0.1`.
    ///
    /// # Errors
    /// If they do not start.
    pub async fn start(names: &str) -> Result<Option<Self>> {
        let browser = BROWSERS.iter().find_map(|name| program(name));
        let (Some(browser), Some(driver)) = (browser, program("chromedriver")) else {
            return Ok(None);
        };
        let home = TempDir::new()?;
        let mut server = Command::new(driver);
        server
            .arg("--port=0")
            // Neither a proxy nor settings of the surroundings.
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut server = server.spawn().context("chromedriver")?;
        let port = port(&mut server).await?;
        let capabilities = capabilities(&browser, home.path(), names)?;
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await;
        Ok(Some(Self {
            driver: driver.context("Chromium does not start")?,
            _server: server,
            _home: home,
        }))
    }

    /// Opens a page.
    ///
    /// # Errors
    /// If nothing at all comes.
    pub async fn open(&self, url: &str) -> Result<()> {
        Ok(self.driver.goto(url).await?)
    }

    /// The text of the page.
    ///
    /// # Errors
    /// If the browser is gone.
    pub async fn text(&self) -> Result<String> {
        let text = self
            .run("return document.documentElement.innerText", &[])
            .await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Runs a function's body, with `await`, in the page, as the page's own script would; `args` are its arguments.
    ///
    /// # Errors
    /// If it throws.
    pub async fn run(&self, body: &str, args: &[Value]) -> Result<Value> {
        let script = format!(
            "const args = Array.from(arguments); const done = args.pop();
            (async () => {{ {body} }})().then(
                value => done({{value: value === undefined ? null : value}}),
                error => done({{error: String(error)}}))"
        );
        let done = self.driver.execute_async(script, args.to_vec()).await?;
        let done = done.json();
        anyhow::ensure!(done["error"].is_null(), "{}", done["error"]);
        Ok(done["value"].clone())
    }

    /// Ends it. Whoever only drops it leaves the browser to its driver, which is killed.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn quit(self) -> Result<()> {
        Ok(self.driver.quit().await?)
    }
}

/// The port that the driver chose.
async fn port(server: &mut Child) -> Result<u16> {
    let mut lines = BufReader::new(server.stdout.take().context("no stdout")?).lines();
    let told = async {
        while let Some(line) = lines.next_line().await? {
            let port = line.split_once("started successfully on port ");
            if let Some((_, port)) = port {
                return Ok(port.trim_end_matches('.').parse()?);
            }
        }
        anyhow::bail!("chromedriver ended")
    };
    let port = tokio::time::timeout(PATIENCE, told).await;
    // Read on: with its pipe full it would stand still.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    port.context("chromedriver names no port")?
}

fn capabilities(
    browser: &Path,
    home: &Path,
    names: &str,
) -> Result<thirtyfour::ChromeCapabilities> {
    let mut capabilities = DesiredCapabilities::chrome();
    capabilities.set_binary(&browser.display().to_string())?;
    for argument in [
        "--headless=new",
        // Root, whom containers run as, has no sandbox; and all pages are ours.
        "--no-sandbox",
        // Containers have little of it.
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-proxy-server",
        // What the browser itself does against such pages is left out: the host must not depend on it.
        "--disable-features=HttpsUpgrades,LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
        &format!("--user-data-dir={}", home.join("profile").display()),
        &format!("--host-resolver-rules={names}"),
    ] {
        capabilities.add_arg(argument)?;
    }
    Ok(capabilities)
}

fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut paths = env::split_paths(&path).map(|folder| folder.join(name));
    paths.find(|path| path.is_file())
}
