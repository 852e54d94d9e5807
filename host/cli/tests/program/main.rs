//! The program as its users meet it: started as a process, with settings in its environment.
#![allow(clippy::disallowed_methods, reason = "test code")]

mod serving;
mod settings;

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use serde_json::Value;

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program with nothing but these variables in its environment.
fn wharf(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command
        .current_dir(dir)
        .env_clear()
        .envs(variables.iter().copied())
        .args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end.
fn run(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    wharf(dir, variables, arguments)
        .output()
        .expect("wharf can be started")
}

/// A program that runs until it is told to stop. Dropped, it is killed.
struct Service {
    child: Child,
    log: Receiver<Value>,
    stdout: Option<ChildStdout>,
    base_url: String,
}

impl Service {
    /// Starts it and waits until it listens and, if it has any, its plugins are loaded.
    fn start(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut service = Self::spawn(dir, variables, arguments);
        // The two come in any order.
        let mut awaited = vec!["listening"];
        awaited.extend(
            arguments
                .contains(&"serve")
                .then_some("the plugins are loaded"),
        );
        while !awaited.is_empty() {
            let line = service.log.recv_timeout(PATIENCE).expect("another line");
            awaited.retain(|message| line["message"] != *message);
            if line["message"] == "listening" {
                let address = line["address"].as_str().expect("an address");
                service.base_url = format!("http://{address}");
            }
        }
        service
    }

    /// Starts it.
    fn spawn(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut child = wharf(
            dir,
            &[variables, &[("LOG_FORMAT", "json")]].concat(),
            arguments,
        )
        .spawn()
        .expect("wharf can be started");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let stdout = child.stdout.take();
        Self {
            child,
            log,
            stdout,
            base_url: String::new(),
        }
    }

    /// Waits for a line of the log.
    fn logged(&self, message: &str) -> Value {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line["message"] == message => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("{message} was not logged, but {seen:#?}"),
            }
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill can be started").success());
    }

    /// Waits for its end; what it printed and how it ended.
    fn ended(mut self) -> (String, ExitStatus) {
        let mut text = String::new();
        let mut stdout = self.stdout.take().expect("taken once");
        stdout.read_to_string(&mut text).expect("text");
        (text, self.child.wait().expect("it ended"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client() -> wharf_egress::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    wharf_egress::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
}
