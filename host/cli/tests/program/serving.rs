//! Commands that run until they are told to stop, and those that talk to them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
};

use serde_json::{Value, json};

use crate::{Service, client, run};

const ANY_PORT: [(&str, &str); 1] = [("PORT", "0")];

#[tokio::test]
async fn the_host_needs_nothing_and_stops_when_told() {
    let dir = tempfile::tempdir().expect("a folder");
    for signal in ["-TERM", "-INT"] {
        let host = Service::start(dir.path(), &ANY_PORT, &["serve"]);
        let ready = client()
            .get(format!("{}/readyz", host.base_url))
            .send()
            .await
            .expect("an answer");
        assert_eq!(ready.status(), 200);
        assert!(ready.headers().contains_key("x-request-id"));
        host.signal(signal);
        let (printed, status) = host.ended();
        assert_eq!((printed.as_str(), status.code()), ("", Some(0)));
    }
    let key = std::fs::metadata(dir.path().join(".wharf/key")).expect("the key file");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_host_listens_at_a_name_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let variables = [
        ("PORT", "0"),
        ("HOST", "localhost"),
        ("METRICS_ADDR", "localhost:0"),
    ];
    let host = Service::start(dir.path(), &variables, &["serve", "--role", "api"]);
    let alive = client().get(format!("{}/healthz", host.base_url)).send();
    assert_eq!(alive.await.expect("an answer").status(), 200);
}

#[test]
fn every_role_checks_the_schema() {
    let dir = tempfile::tempdir().expect("a folder");
    for (variables, words) in [
        (&[("MIGRATE", "check")][..], &["serve", "--port", "0"][..]),
        (&[], &["worker", "sync"]),
        (&[], &["worker", "callback"]),
        (&[], &["scheduler", "sync"]),
        (&[], &["scheduler", "callback", "--loop"]),
        (&[], &["keys", "status"]),
    ] {
        let output = run(dir.path(), variables, words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(
            said.contains("lacks migration 1: run `wharf migrate`"),
            "{words:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_host_without_plugins_serves_no_marketplace() {
    let dir = tempfile::tempdir().expect("a folder");
    let host = Service::start(dir.path(), &ANY_PORT, &["serve", "--role", "api"]);
    let ask = client()
        .post(format!("{}/mock/etsy/validate", host.base_url))
        .json(&json!({"receipt": "1"}));
    let answer = ask.send().await.expect("an answer");
    assert_eq!(answer.status(), 400);
    assert_eq!(
        answer.json::<Value>().await.expect("JSON"),
        json!({"error": "Invalid marketplace"})
    );
}

#[test]
fn schedulers_and_lists_answer_in_json() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(run(dir.path(), &[], &["migrate"]).status.success());
    for kind in ["sync", "callback"] {
        let output = run(dir.path(), &[], &["scheduler", kind, "--json"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let passed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(passed["enqueuedJobs"], 0, "{kind}");
    }
    let plugins = run(dir.path(), &[], &["plugin", "list", "--json"]);
    assert_eq!(
        serde_json::from_slice::<Value>(&plugins.stdout).expect("JSON"),
        json!([])
    );
}

#[test]
fn workers_stop_when_told() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(run(dir.path(), &[], &["migrate"]).status.success());
    for words in [
        &["worker", "sync"][..],
        &["worker", "callback"],
        &["scheduler", "sync", "--loop"],
    ] {
        let worker = Service::spawn(dir.path(), &[], words);
        worker.logged("running");
        worker.signal("-TERM");
        assert_eq!(worker.ended().1.code(), Some(0), "{words:?}");
    }
}

#[test]
fn a_process_that_waits_for_its_database_stops_when_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = "0a".repeat(32);
    let variables = [
        ("DATABASE_URL", "postgres://wharf@127.0.0.1:1/wharf"),
        ("DATABASE_START_WAIT", "1h"),
        ("WHARF_ENCRYPTION_KEY", key.as_str()),
    ];
    for words in [&["serve"][..], &["worker", "sync"]] {
        let host = Service::spawn(dir.path(), &variables, words);
        let line = host.logged("the database does not answer yet");
        let place = "PostgreSQL at 127.0.0.1:1, database wharf, user wharf";
        assert_eq!(line["place"], place);
        host.signal("-TERM");
        assert_eq!(host.ended().1.code(), Some(0), "{words:?}");
    }
}

#[tokio::test]
async fn the_mock_receiver_shows_what_it_gets_and_fails_when_asked() {
    let dir = tempfile::tempdir().expect("a folder");
    let receiver = Service::start(dir.path(), &[], &["mock-webhook", "--port", "0"]);
    let post = |path: &str| client().post(format!("{}{path}", receiver.base_url));
    for (request, status) in [
        (
            post("/webhook")
                .header("x-event-id", "event-1")
                .json(&json!({"event": "sync.completed"})),
            200,
        ),
        (post("/").json(&json!({"data": {"receipt": "RL15"}})), 500),
        (
            post("/anywhere/else")
                .header("x-fail", "true")
                .body("no JSON"),
            500,
        ),
        (client().get(format!("{}/webhook", receiver.base_url)), 405),
    ] {
        assert_eq!(request.send().await.expect("an answer").status(), status);
    }
    receiver.signal("-TERM");
    let (printed, status) = receiver.ended();
    assert_eq!(status.code(), Some(0));
    let lines: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines
            .iter()
            .all(|line| line["message"] == "webhook_received")
    );
    assert_eq!(
        (&lines[0]["eventId"], &lines[0]["body"]["event"]),
        (&json!("event-1"), &json!("sync.completed"))
    );
    assert_eq!(
        (&lines[2]["body"], &lines[2]["status"]),
        (&json!("no JSON"), &json!(500))
    );
}

#[test]
fn a_flow_without_a_host_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = run(
        dir.path(),
        &[("BASE_URL", "http://127.0.0.1:1")],
        &["flow", "--json"],
    );
    assert_eq!(output.status.code(), Some(1));
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&printed["ok"], &printed["steps"]),
        (&json!(false), &json!([]))
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("is `wharf serve` running there?"));
}

#[tokio::test]
async fn a_flow_ends_at_the_first_answer_it_cannot_build_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let host = Service::start(dir.path(), &ANY_PORT, &["serve", "--role", "api"]);
    let variables = [
        ("BASE_URL", host.base_url.as_str()),
        ("CURRENCY", "dollars"),
    ];
    let output = run(dir.path(), &variables, &["flow"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        printed.contains("POST /stores/register\n400 {") && !printed.contains("/orders/import"),
        "{printed}"
    );
}

/// Begins a request and returns when its handler waits for the two bytes of its body.
fn half_a_request(host: &Service) -> BufReader<TcpStream> {
    let address = host.base_url.trim_start_matches("http://");
    let mut connection = BufReader::new(TcpStream::connect(address).expect("a connection"));
    let head = "POST /orders/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
    write!(connection.get_mut(), "{head}Expect: 100-continue\r\n\r\n").expect("written");
    let mut line = String::new();
    connection.read_line(&mut line).expect("an interim answer");
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    connection
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let host = Service::start(dir.path(), &ANY_PORT, &["serve"]);
    let mut connection = half_a_request(&host);
    host.signal("-TERM");
    host.logged("stopping: what is in flight is finished first");
    connection.get_mut().write_all(b"{}").expect("written");
    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .expect("an answer, and then the end");
    assert!(
        answer.contains("HTTP/1.1 400") && answer.contains("syncToken"),
        "{answer}"
    );
    assert_eq!(host.ended().1.code(), Some(0));
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let dir = tempfile::tempdir().expect("a folder");
    let host = Service::start(
        dir.path(),
        &[("PORT", "0"), ("SHUTDOWN_GRACE", "100ms")],
        &["serve"],
    );
    let _connection = half_a_request(&host);
    host.signal("-TERM");
    assert_eq!(host.ended().1.code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let host = Service::start(dir.path(), &ANY_PORT, &["serve"]);
    let _connection = half_a_request(&host);
    host.signal("-TERM");
    host.logged("stopping: what is in flight is finished first");
    host.signal("-INT");
    assert_eq!(host.ended().1.code(), Some(130));
}
