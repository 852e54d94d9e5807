//! A PostgreSQL and a Redis that speak TLS, with certificates of the test's own. `cargo xtask test` starts others, without.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, getuid, kill_process};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{PATIENCE, eventually, zoo::Certificates};

/// Both servers, for as long as this value lives.
#[derive(Debug)]
pub struct TlsServers {
    // In this order: the servers end before their directory goes.
    _postgres: Server,
    _redis: Server,
    certificates: Certificates,
    postgres_port: u16,
    redis_port: u16,
    _dir: TempDir,
}

impl TlsServers {
    /// Starts them. PostgreSQL does not run as root, so root starts it as `postgres` or `nobody`.
    ///
    /// # Errors
    /// If a program is missing or does not come up.
    pub async fn start() -> Result<Self> {
        crate::standard_tls();
        let dir = tempfile::Builder::new().prefix("wharf-tls-").tempdir()?;
        let certificates = Certificates::write(dir.path())?;
        let owner = unprivileged_owner()?;
        if let Some((user, group)) = owner {
            for path in [dir.path(), certificates.server_key_file()] {
                chown(path, Some(user), Some(group))?;
            }
        }
        let (postgres_port, redis_port) = (free_port()?, free_port()?);
        let redis = start_redis(dir.path(), &certificates, redis_port).await?;
        let postgres = start_postgres(dir.path(), &certificates, owner, postgres_port).await?;
        Ok(Self {
            _postgres: postgres,
            _redis: redis,
            certificates,
            postgres_port,
            redis_port,
            _dir: dir,
        })
    }

    /// The database's URL by this name of the machine, with these parameters such as `sslmode=require`.
    pub fn database_url(&self, host: &str, parameters: &str) -> String {
        let port = self.postgres_port;
        format!("postgres://wharf@{host}:{port}/postgres?{parameters}")
    }

    /// `rediss://...`
    pub fn redis_url(&self) -> String {
        format!("rediss://localhost:{}/", self.redis_port)
    }

    /// The file of the authority that signed both servers' certificate.
    pub fn authority_file(&self) -> &Path {
        self.certificates.authority_file()
    }
}

/// A process that is killed with its value.
#[derive(Debug)]
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // PostgreSQL ends its own children at this signal, and Redis itself. Errors mean that it has ended.
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}

async fn start_redis(dir: &Path, certificates: &Certificates, port: u16) -> Result<Server> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", "0", "--tls-port", &port.to_string()])
        .args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--tls-auth-clients",
            "no",
        ])
        .arg("--tls-cert-file")
        .arg(certificates.server_file())
        .arg("--tls-key-file")
        .arg(certificates.server_key_file())
        .arg("--tls-ca-cert-file")
        .arg(certificates.authority_file())
        .arg("--dir")
        .arg(dir);
    let mut server = spawn(&mut command).context("redis-server")?;
    let answers = async || TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop);
    come_up("Redis with TLS", &mut server, answers).await?;
    Ok(server)
}

async fn start_postgres(
    dir: &Path,
    certificates: &Certificates,
    owner: Option<(u32, u32)>,
    port: u16,
) -> Result<Server> {
    let programs = postgres_programs().context("PostgreSQL is not installed")?;
    let run = |program: &str| {
        let mut command = Command::new(programs.join(program));
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        command.current_dir(dir).arg("-D").arg(dir.join("data"));
        command
    };
    let made = run("initdb")
        .args([
            "--no-sync",
            "--auth=trust",
            "--username=wharf",
            "--locale=C",
        ])
        .output()?;
    ensure!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let file = |name: &str, path: &Path| format!("{name}={}", path.display());
    let mut command = run("postgres");
    command.arg("-k").arg(dir).args(["-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        "fsync=off".to_owned(),
        "ssl=on".to_owned(),
        file("ssl_cert_file", certificates.server_file()),
        file("ssl_key_file", certificates.server_key_file()),
    ] {
        command.args(["-c", &setting]);
    }
    let mut server = spawn(&mut command).context("postgres")?;
    let url = format!("postgres://wharf@127.0.0.1:{port}/postgres?sslmode=disable");
    let answers = async || PgConnection::connect(&url).await.ok().map(drop);
    come_up("PostgreSQL with TLS", &mut server, answers).await?;
    Ok(server)
}

fn spawn(command: &mut Command) -> Result<Server> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // A Ctrl-C ends it through this program.
    Ok(Server(command.process_group(0).spawn()?))
}

/// Waits until it answers, or fails as soon as it has ended.
async fn come_up(
    what: &str,
    server: &mut Server,
    answers: impl AsyncFn() -> Option<()>,
) -> Result<()> {
    let ended = eventually(what, PATIENCE, || {
        let ended = server.0.try_wait().ok().flatten();
        let answers = &answers;
        async move {
            match ended {
                Some(status) => Some(Some(status)),
                None => answers().await.map(|()| None),
            }
        }
    });
    match ended.await? {
        Some(status) => bail!("{what} ended with {status}"),
        None => Ok(()),
    }
}

/// The user and group that root gives PostgreSQL.
fn unprivileged_owner() -> Result<Option<(u32, u32)>> {
    if !getuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    let owner = find("postgres").or_else(|| find("nobody"));
    owner.map(Some).context("a user who is not root")
}

/// The folder of the server's programs: in PATH, or where Debian keeps them.
fn postgres_programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let debian: Vec<_> = debian.map(|version| version.path().join("bin")).collect();
    env::split_paths(&env::var_os("PATH")?)
        .chain(debian)
        .find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
