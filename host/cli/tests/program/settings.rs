//! Settings are checked before anything starts.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, process::Command};

use crate::run;

#[test]
fn a_wrong_setting_is_named_and_nothing_starts() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, value) in [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("HOST", "nowhere.invalid"),
        ("METRICS_ADDR", "9464"),
        ("ADMIN_ADDR", "9465"),
        ("CLIENT_RATE", "100001"),
        ("CLIENT_BURST", "0"),
        ("CLIENT_CONCURRENCY", "some"),
        ("ALLOWED_HOSTS", "wharf.example.com,http://wharf"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "wharf=loud"),
        ("LOG_LEVEL", "warning"),
        ("MIGRATE", "maybe"),
        ("REQUEST_TIMEOUT", "30"),
        ("SHUTDOWN_GRACE", "soon"),
        ("SYNC_CHUNK_SIZE", "0"),
        ("SYNC_CHUNK_SIZE", "1001"),
        ("SYNC_CONCURRENCY", "0"),
        ("LEASE", "10ms"),
        ("LEASE", "99h"),
        ("RETENTION", "99999d"),
        ("WEBHOOK_RETRY", "never"),
        ("WEBHOOK_TIMEOUT", "-1s"),
        ("WEBHOOK_ALLOW_NETWORKS", "localhost"),
        ("CALLBACK_CONCURRENCY", "many"),
        ("DATABASE_POOL", "0"),
        ("DATABASE_ACQUIRE_TIMEOUT", "0s"),
        ("DATABASE_STATEMENT_TIMEOUT", "1 second ago"),
        ("PLUGIN_MAX_IN_FLIGHT", "-3"),
        ("PLUGIN_MAX_IN_FLIGHT", "100000"),
        ("PLUGIN_THREADS", "10000"),
        ("PLUGIN_MEMORY_TOTAL", "4294967295GiB"),
        ("SYNC_CONCURRENCY", "100000"),
        ("DATABASE_STATEMENT_TIMEOUT", "10000h"),
        ("DATABASE_URL", "mysql://wharf:hidden@localhost/wharf"),
        ("REDIS_URL", "localhost:6379?hidden"),
        (
            "DATABASE_URL",
            "postgres://wharf:hidden@localhost/wharf?sslmode=on",
        ),
        ("WHARF_ENCRYPTION_KEY", "hidden"),
        ("WHARF_ADMIN_TOKEN", "hidden"),
        ("WEBHOOK_SECRET", "hidden"),
        ("WEBHOOK_SECRET_FILE", "hidden"),
        ("MOCK_ETSY_USER", "with:colon"),
    ] {
        let output = run(dir.path(), &[(name, value)], &["serve"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {said}");
        assert_eq!(said.matches("error:").count(), 1, "{name}={value}: {said}");
        assert!(
            said.contains(name) && !said.contains("hidden"),
            "{name}={value}: {said}"
        );
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("the folder").count(),
        0,
        "something was started"
    );
}

#[test]
fn all_wrong_settings_are_in_one_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    let wrong = [
        ("PORT", "http"),
        ("LOG_LEVEL", "warning"),
        ("LEASE", "10ms"),
        ("DATABASE_URL", "mysql://wharf:hidden@localhost/wharf"),
        ("REDIS_URL_FILE", "/hidden"),
        ("WHARF_ADMIN_TOKEN", "hidden"),
        ("MOCK_ETSY_USER", "with:colon"),
    ];
    let flags = [
        "serve",
        "--plugin-threads",
        "10000",
        "--webhook-retry=never",
    ];
    let output = run(dir.path(), &wrong, &flags);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: 9 settings are wrong\n"), "{said}");
    let names = wrong.map(|(name, _)| name);
    for name in names.iter().chain(&["PLUGIN_THREADS", "WEBHOOK_RETRY"]) {
        assert_eq!(
            said.matches(&format!("\n  {name} ")).count(),
            1,
            "{name}: {said}"
        );
    }
    assert!(!said.contains("hidden"), "{said}");
}

#[test]
fn secrets_are_no_flags() {
    let dir = tempfile::tempdir().expect("a folder");
    for flag in [
        "--database-url",
        "--redis-url",
        "--encryption-key",
        "--admin-token",
        "--webhook-secret",
    ] {
        let output = run(dir.path(), &[], &["serve", flag, "a-secret-of-some-length"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("unexpected argument"), "{said}");
    }
}

#[test]
fn secrets_come_from_files_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, line: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{line}\n")).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let (key, database) = (
        file("a-key", &"0a".repeat(32)),
        file("a-url", "sqlite:a.db"),
    );
    let variables = [
        ("WHARF_ENCRYPTION_KEY_FILE", key.as_str()),
        ("DATABASE_URL_FILE", &database),
    ];
    assert!(run(dir.path(), &variables, &["migrate"]).status.success());
    assert!(dir.path().join("a.db").exists());
    let status = run(dir.path(), &variables, &["keys", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["keys"][0]["given"], "first", "{status}");
    let twice = [variables[0], ("WHARF_ENCRYPTION_KEY", "0a")];
    let said = run(dir.path(), &twice, &["serve"]).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("WHARF_ENCRYPTION_KEY must not be set together"),
        "{said}"
    );
}

#[test]
fn a_database_that_does_not_answer_is_named_without_its_password() {
    let dir = tempfile::tempdir().expect("a folder");
    let variables = [
        (
            "DATABASE_URL",
            "postgres://someone:hidden@127.0.0.1:1/orders",
        ),
        ("DATABASE_START_WAIT", "600ms"),
    ];
    let output = run(dir.path(), &variables, &["migrate"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let place = "PostgreSQL at 127.0.0.1:1, database orders, user someone";
    // Once that it is waited for, once that it was in vain.
    assert_eq!(said.matches(place).count(), 2, "{said}");
    assert!(
        said.contains("refused") && !said.contains("hidden"),
        "{said}"
    );
}

#[test]
fn what_is_secret_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let mode = |path: &str| {
        let metadata = std::fs::metadata(dir.path().join(path)).expect(path);
        metadata.permissions().mode() & 0o777
    };
    // With the usual mask, whatever the one of this process is.
    let command = format!("umask 022; exec {} migrate", env!("CARGO_BIN_EXE_wharf"));
    let shell = Command::new("sh")
        .args(["-c", &command])
        .current_dir(dir.path())
        .env_clear()
        .output();
    assert!(shell.expect("a shell").status.success());
    assert_eq!((mode(".wharf"), mode(".wharf/wharf.db")), (0o700, 0o600));
    let key = dir.path().join(".wharf/key");
    std::fs::write(&key, "0a".repeat(32)).expect("written");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("changed");
    let output = run(dir.path(), &[("PORT", "0")], &["serve"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("chmod 600 .wharf/key"), "{said}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let dir = tempfile::tempdir().expect("a folder");
    let empty = [
        "LOG_LEVEL",
        "LOG_FORMAT",
        "DATABASE_URL",
        "DATABASE_POOL",
        "WHARF_DATA_DIR",
        "DATABASE_ACQUIRE_TIMEOUT",
    ];
    let output = run(dir.path(), &empty.map(|name| (name, "")), &["migrate"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(dir.path().join(".wharf/wharf.db").exists());
}

#[test]
fn postgresql_needs_a_key_of_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = run(
        dir.path(),
        &[("DATABASE_URL", "postgres://wharf:hidden@127.0.0.1:1/wharf")],
        &["serve"],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("WHARF_ENCRYPTION_KEY must be set with PostgreSQL")
            && !said.contains("hidden"),
        "{said}"
    );
}

#[test]
fn the_schema_is_that_of_the_chosen_database() {
    let dir = tempfile::tempdir().expect("a folder");
    let schema = |url: &str| {
        let output = run(dir.path(), &[("DATABASE_URL", url)], &["schema"]);
        assert!(output.status.success());
        String::from_utf8(output.stdout)
            .expect("text")
            .to_lowercase()
    };
    let (embedded, postgres) = (schema(""), schema("postgres://localhost/wharf"));
    assert!(embedded.contains("strict") && !embedded.contains("timestamptz"));
    assert!(postgres.contains("timestamptz") && postgres.contains("sync_logs"));
}

#[test]
fn every_command_explains_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let words = [
        &["serve"][..],
        &["worker"],
        &["scheduler"],
        &["migrate"],
        &["schema"],
        &["mock-webhook"],
        &["flow"],
        &["plugin", "list"],
    ];
    for command in words {
        let output = run(
            dir.path(),
            &[("WEBHOOK_SECRET", "hidden")],
            &[command, &["--help"]].concat(),
        );
        let help = String::from_utf8(output.stdout).expect("text");
        assert!(
            output.status.success() && help.contains("Examples:"),
            "{command:?}: {help}"
        );
        assert!(!help.contains("hidden"), "{command:?}: {help}");
    }
    let version = run(dir.path(), &[], &["--version"]).stdout;
    assert_eq!(
        String::from_utf8_lossy(&version).trim(),
        format!("wharf {}", env!("CARGO_PKG_VERSION"))
    );
}
