//! A private Redis with many databases, so that each test has its own.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Durability, free_port, last_lines};
use crate::{
    process::{Background, background, wait_until},
    progress::step,
    workspace::find_program,
};

/// Far more than tests run at a time.
const DATABASES: &str = "512";

/// A running server.
pub(super) struct Redis {
    // In this order: the server ends before its directory goes.
    _server: Background,
    _dir: TempDir,
    port: u16,
}

impl Redis {
    pub(super) fn start(durability: Durability) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("wharf-redis-").tempdir()?;
        let port = free_port()?;
        let server = step(&format!("Redis on 127.0.0.1:{port}"), || {
            serve(&dir, port, durability)
        })?;
        Ok(Self {
            _server: server,
            _dir: dir,
            port,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

fn serve(dir: &TempDir, port: u16, durability: Durability) -> Result<Background> {
    let log_path = dir.path().join("server.log");
    let log = File::create(&log_path)?;
    let append_only = if durability == Durability::Kept {
        "yes"
    } else {
        "no"
    };
    let mut command = background(&program().context("Redis is not installed")?, None)?;
    command.current_dir(dir.path()).args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--databases",
        DATABASES,
    ]);
    command.args([
        "--save",
        "",
        "--appendonly",
        append_only,
        "--daemonize",
        "no",
    ]);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut server = Background::start("Redis", &mut command)?;
    wait_until("Redis is ready", Duration::from_secs(30), || {
        server.check()?;
        Ok(answers_ping(port).unwrap_or(false))
    })
    .with_context(|| last_lines(&log_path))?;
    Ok(server)
}

fn answers_ping(port: u16) -> Result<bool> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    connection.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG")
}

/// The server's program. Valkey speaks the same protocol.
pub(super) fn program() -> Option<PathBuf> {
    ["redis-server", "valkey-server"]
        .into_iter()
        .find_map(find_program)
}
