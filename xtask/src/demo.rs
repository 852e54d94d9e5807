//! `cargo xtask demo`: a real order, a real sync run and a real webhook through real components, on the embedded
//! database, with nothing installed but Rust. With `--exit` it is the smoke test: every expectation is checked.

use std::{
    fs,
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use console::style;
use serde_json::{Value, json};

use crate::{
    http::request,
    plugins::{self, Guests},
    process::{Background, background, run_ok, stopped, wait_until},
    progress::{heading, note, section, step},
    servers::free_port,
    workspace::{cargo, root, target_dir},
};

/// The end of a demo.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The host runs on until Ctrl-C.
    StayUp,
    /// The host is stopped and the exit code says whether all was as expected.
    Check,
}

/// The flow's receipts, what the seed's rules make of them, and the words for people.
const RECEIPTS: [(&str, &str, &str); 3] = [
    ("order-101", "imported", "its last digit is odd"),
    ("order-102", "invalid_receipt", "its last digit is even"),
    (
        "order-115",
        "rate_limited",
        "1 + 5 is divisible by 6; asked again in 5 minutes",
    ),
];

/// Time that the webhook may take: the sync run and the delivery need well under a second.
const WEBHOOK_LIMIT: Duration = Duration::from_secs(30);

/// As measured on two cores; a machine with more is faster nearly in proportion.
const FIRST_BUILD: &str = "The first build compiles some 400 crates: about 6 minutes on two cores, during which cargo \
    shows how far it is. After that the demo takes seconds.";

/// Builds, starts, shows, and ends as told.
pub(crate) fn run(ending: Ending) -> Result<ExitCode> {
    if !wharf()?.exists() {
        note(FIRST_BUILD);
    }
    plugins::build(Guests::LeftOut)?;
    // With the features of the whole workspace, so that `cargo xtask test` finds everything built.
    section("Building wharf", || {
        run_ok(cargo().args(["build", "--bin", "wharf"]))
    })?;
    let dir = target_dir()?.join("demo");
    show(&dir, ending).inspect_err(|_| eprintln!("{}", last_words(&dir)))
}

fn show(dir: &Path, ending: Ending) -> Result<ExitCode> {
    let stage = step("Host and webhook receiver", || Stage::start(dir))?;
    stage.run_flow()?;
    heading("What happened");
    let token = stage.show_orders()?;
    stage.show_sync(&token)?;
    stage.finish(ending)
}

/// The program that is built and shown.
fn wharf() -> Result<PathBuf> {
    Ok(target_dir()?.join("debug/wharf"))
}

/// The running processes. Dropped, they are stopped.
struct Stage {
    wharf: PathBuf,
    dir: PathBuf,
    port: u16,
    receiver_port: u16,
    _receiver: Background,
    host: Background,
}

impl Stage {
    fn start(dir: &Path) -> Result<Self> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("target/demo");
            }
            _ => fs::create_dir_all(dir)?,
        }
        let wharf = wharf()?;
        let (port, receiver_port) = (port_like(3000)?, port_like(4000)?);
        let mut receiver = start_wharf(
            &wharf,
            dir,
            ("webhook receiver", "receiver.log"),
            &["mock-webhook", "--port", &receiver_port.to_string()],
            &[],
        )?;
        let mut host = start_wharf(
            &wharf,
            dir,
            ("wharf serve", "host.log"),
            &["serve"],
            &host_settings(dir, port),
        )?;
        wait_until("the host is ready", Duration::from_secs(60), || {
            host.check()?;
            receiver.check()?;
            Ok(request(port, "GET", "/readyz", None).is_ok_and(|(status, _)| status == 200))
        })?;
        Ok(Self {
            wharf,
            dir: dir.to_owned(),
            port,
            receiver_port,
            _receiver: receiver,
            host,
        })
    }

    /// The seed's endpoint flow, by the program's own command.
    fn run_flow(&self) -> Result<()> {
        heading("wharf flow");
        let receipts: Vec<&str> = RECEIPTS.iter().map(|(receipt, ..)| *receipt).collect();
        let mut command = std::process::Command::new(&self.wharf);
        command
            .arg("flow")
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        command.env("BASE_URL", format!("http://127.0.0.1:{}", self.port));
        command
            .env("WEBHOOK_URL", self.webhook_url())
            .env("RECEIPTS", receipts.join(","));
        command.envs(store_of_the_flow());
        run_ok(&mut command)
    }

    fn webhook_url(&self) -> String {
        format!("http://127.0.0.1:{}/webhook", self.receiver_port)
    }

    fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        request(self.port, "POST", path, Some(body))
    }

    /// Asks for the flow's store and orders once more (both routes are idempotent) and compares with the rules.
    fn show_orders(&self) -> Result<String> {
        let [
            organization,
            marketplace,
            external_id,
            name,
            access_token,
            currency,
        ] = store_of_the_flow().map(|(_, value)| value);
        let store = json!({"organizationId": organization, "marketplace": marketplace, "externalStoreId": external_id,
            "storeName": name, "accessToken": access_token, "currency": currency});
        let (status, answer) = self.post("/stores/register", &store)?;
        ensure!(
            status == 200,
            "the store is not registered: {status} {answer}"
        );
        let token = answer["syncToken"]
            .as_str()
            .context("registration gives no syncToken")?
            .to_owned();
        for (receipt, expected, why) in RECEIPTS {
            let (status, answer) = self.post(
                "/orders/import",
                &json!({"syncToken": token, "receipt": receipt}),
            )?;
            let outcome = answer["error"].as_str().unwrap_or("imported");
            ensure!(
                status == 200 && outcome == expected,
                "{receipt}: {status} {answer}, not {expected}"
            );
            let details = match answer["orderId"].as_str() {
                Some(id) => format!(
                    "as {id}, {:.2} {currency}",
                    answer["amount"].as_f64().unwrap_or_default()
                ),
                None => String::new(),
            };
            came_true(receipt, &format!("{expected} {details}"), why);
        }
        Ok(token)
    }

    /// Has the store synchronised and waits for the webhook that tells of it.
    fn show_sync(&self, token: &str) -> Result<()> {
        let (status, answer) = self.post("/stores/sync", &json!({"syncToken": token}))?;
        ensure!(
            status == 202,
            "the sync was not accepted: {status} {answer}"
        );
        let mut event = Value::Null;
        wait_until("the webhook arrives", WEBHOOK_LIMIT, || {
            event = received(&self.dir, "sync.completed").unwrap_or_default();
            Ok(!event.is_null())
        })?;
        let data = &event["data"];
        ensure!(
            data["processedCount"] == 1 && data["failedCount"] == 1,
            "an unexpected run: {event}"
        );
        came_true(
            "sync",
            "1 receipt asked again, refused again",
            "order-102; order-115 is not due yet",
        );
        let id = event["eventId"]
            .as_str()
            .context("the webhook names no event")?;
        came_true(
            "webhook",
            &format!("sync.completed arrived, event {id}"),
            &self.webhook_url(),
        );
        let (status, answer) = request(
            self.port,
            "GET",
            &format!("/stores/sync-status?syncToken={token}"),
            None,
        )?;
        ensure!(
            status == 200 && answer["syncStatus"] == "partial" && answer["importedOrders"] == 1,
            "an unexpected status: {status} {answer}"
        );
        came_true(
            "status",
            "partial, 1 order imported, 1 rate-limited",
            "GET /stores/sync-status",
        );
        Ok(())
    }

    fn finish(mut self, ending: Ending) -> Result<ExitCode> {
        if ending == Ending::StayUp {
            let address = format!("http://127.0.0.1:{}", self.port);
            heading(&format!(
                "Wharf runs on {} until Ctrl-C",
                style(address).bold().for_stderr()
            ));
            note(&format!("logs and data: {}", self.dir.display()));
            while !stopped() {
                self.host.check()?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        drop(self);
        heading("Stopped. All as expected.");
        Ok(ExitCode::SUCCESS)
    }
}

/// The store of the flow, in the names of its settings.
fn store_of_the_flow() -> [(&'static str, &'static str); 6] {
    [
        ("ORG_ID", "org-1"),
        ("MARKETPLACE", "etsy"),
        ("EXTERNAL_STORE_ID", "ext-100"),
        ("STORE_NAME", "My Etsy Store"),
        ("ACCESS_TOKEN", "token-v2"),
        ("CURRENCY", "USD"),
    ]
}

fn host_settings(dir: &Path, port: u16) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("PORT", port.to_string()),
        ("WHARF_DATA_DIR", dir.join("data").display().to_string()),
        (
            "WHARF_PLUGINS_DIR",
            root().join("plugins").display().to_string(),
        ),
    ];
    for (name, value) in [
        ("MOCK_ETSY_USER", "etsy_user"),
        ("MOCK_ETSY_PASS", "etsy_pass"),
        ("MOCK_SHOPIFY_USER", "shopify_user"),
        ("MOCK_SHOPIFY_PASS", "shopify_pass"),
        ("MOCK_AMAZON_USER", "amazon_user"),
        ("MOCK_AMAZON_PASS", "amazon_pass"),
    ] {
        settings.push((name, value.to_owned()));
    }
    settings
}

fn start_wharf(
    wharf: &Path,
    dir: &Path,
    (name, log): (&'static str, &str),
    arguments: &[&str],
    settings: &[(&'static str, String)],
) -> Result<Background> {
    let log = File::create(dir.join(log))?;
    let mut command = background(wharf, None)?;
    command
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // The demo shows the embedded default, whatever the surroundings are set to.
    command
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .env_remove("HOST");
    command
        .env("LOG_FORMAT", "json")
        .envs(settings.iter().map(|(name, value)| (name, value)));
    Background::start(name, &mut command)
}

/// The well-known port if it is free, else any.
fn port_like(wanted: u16) -> Result<u16> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)) {
        Ok(_) => Ok(wanted),
        Err(_) => free_port(),
    }
}

/// The body of an event that the receiver logged.
fn received(dir: &Path, kind: &str) -> Option<Value> {
    let log = fs::read_to_string(dir.join("receiver.log")).ok()?;
    log.lines()
        .filter(|line| line.contains("webhook_received"))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| line["body"].clone())
        .find(|body| body["event"] == kind)
}

/// The last lines of both processes, shown after a failure.
fn last_words(dir: &Path) -> String {
    let tail = |log: &str| {
        let text = fs::read_to_string(dir.join(log)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!(
            "{log}:\n{}",
            lines[lines.len().saturating_sub(15)..].join("\n")
        )
    };
    format!("{}\n{}", tail("host.log"), tail("receiver.log"))
}

fn came_true(subject: &str, what: &str, why: &str) {
    let mark = style("✓").green().for_stderr();
    eprintln!(
        "  {mark} {:<10} {} {}",
        style(subject).bold().for_stderr(),
        what.trim(),
        style(format!("({why})")).dim().for_stderr()
    );
}
