//! Settings are checked before anything starts.

use crate::run;

#[test]
fn a_wrong_setting_is_named_and_nothing_starts() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, value) in [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("HOST", "nowhere"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "wharf=loud"),
        ("REQUEST_TIMEOUT", "30"),
        ("SHUTDOWN_GRACE", "soon"),
        ("SYNC_CHUNK_SIZE", "0"),
        ("SYNC_CHUNK_SIZE", "1001"),
        ("SYNC_CONCURRENCY", "0"),
        ("LEASE", "10ms"),
        ("WEBHOOK_RETRY", "never"),
        ("WEBHOOK_TIMEOUT", "-1s"),
        ("WEBHOOK_ALLOW_NETWORKS", "localhost"),
        ("CALLBACK_CONCURRENCY", "many"),
        ("DATABASE_POOL", "0"),
        ("DATABASE_ACQUIRE_TIMEOUT", "0s"),
        ("DATABASE_STATEMENT_TIMEOUT", "1 second ago"),
        ("PLUGIN_MAX_IN_FLIGHT", "-3"),
        ("DATABASE_URL", "mysql://wharf:hidden@localhost/wharf"),
        ("REDIS_URL", "localhost:6379?hidden"),
        ("WHARF_ENCRYPTION_KEY", "hidden"),
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
