//! Settings: defaults, refusals, and secrets that stay out of messages.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: Settings,
}

const KEY: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";

fn settings(flags: &[&str]) -> Settings {
    Line::parse_from(std::iter::once(&"wharf").chain(flags)).settings
}

fn refusal(flags: &[&str]) -> String {
    settings(flags)
        .check()
        .expect_err("it is wrong")
        .to_string()
}

#[test]
fn the_embedded_default_needs_nothing() {
    let settings = settings(&[]);
    assert_eq!(settings.check(), Ok(()));
    assert_eq!(settings.database.deployment(), Deployment::Embedded);
    assert_eq!(settings.database.url(Path::new("here")), "here/wharf.db");
    assert_eq!(settings.address_policy(), AddressPolicy::with_loopback());
}

#[test]
fn sqlite_is_named_by_url_or_path() {
    for url in [
        "sqlite:data.db",
        "sqlite://data.db",
        "sqlite::memory:",
        "/var/lib/wharf.db",
        "data.db",
    ] {
        let settings = settings(&["--database-url", url]);
        assert_eq!(
            (settings.check(), settings.database.deployment()),
            (Ok(()), Deployment::Embedded),
            "{url}"
        );
    }
}

#[test]
fn postgresql_needs_a_key_and_keeps_webhooks_out_of_private_networks() {
    let postgres = ["--database-url", "postgres://u:p@host/db"];
    assert!(refusal(&postgres).contains("WHARF_ENCRYPTION_KEY must be set with PostgreSQL"));
    let settings = settings(&[&postgres[..], &["--encryption-key", KEY]].concat());
    assert_eq!(
        (settings.check(), settings.database.deployment()),
        (Ok(()), Deployment::Shared)
    );
    let keys = settings.keys.given(&settings.data);
    let ids: Vec<_> = keys
        .ok()
        .flatten()
        .iter()
        .flat_map(|keys| keys.ids().collect::<Vec<_>>())
        .collect();
    assert_eq!(ids, [wharf_store::EncryptionKey::new([10; 32]).id()]);
    assert_eq!(settings.address_policy(), AddressPolicy::default());
}

#[test]
fn wrong_secrets_are_named_but_not_repeated() {
    for (flag, value, name) in [
        ("--database-url", "mysql://u:hidden@host/db", "DATABASE_URL"),
        (
            "--database-url",
            "postgres://u:hidden@host:99999/db",
            "DATABASE_URL",
        ),
        ("--redis-url", "http://u:hidden@host", "REDIS_URL"),
        ("--encryption-key", "hidden", "WHARF_ENCRYPTION_KEY"),
    ] {
        let refusal = refusal(&[flag, value]);
        assert!(
            refusal.contains(name) && !refusal.contains("hidden"),
            "{refusal}"
        );
    }
}

#[test]
fn secrets_are_not_debugged() {
    let flags = [
        "--webhook-secret",
        "hidden",
        "--redis-url",
        "redis://:hidden@host",
        "--encryption-key",
        KEY,
    ];
    let shown = format!("{:?}", settings(&flags));
    assert!(!shown.contains("hidden") && !shown.contains(KEY), "{shown}");
}

#[test]
fn listed_networks_replace_the_default() {
    let policy = settings(&["--webhook-allow-networks", "none"]).address_policy();
    assert_eq!(policy, AddressPolicy::default());
}
