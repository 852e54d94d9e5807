//! Settings: defaults, refusals, and secrets that stay out of messages.

use std::path::Path;

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

/// The settings with these secrets, as if the environment gave them.
fn with_secrets(secrets: &[(&'static str, &str)]) -> Settings {
    let mut settings = settings(&[]);
    for (name, value) in secrets {
        let secret = Secret::given(name, value);
        match *name {
            "DATABASE_URL" => settings.database.database_url = secret,
            "REDIS_URL" => settings.redis_url = secret,
            "WHARF_ENCRYPTION_KEY" => settings.keys.encryption_key = secret,
            "WEBHOOK_SECRET" => settings.webhooks.webhook_secret = secret,
            _ => panic!("{name} is no secret"),
        }
    }
    settings
}

fn wrong(settings: &Settings) -> Vec<String> {
    let mut wrong = Vec::new();
    settings.check(&mut wrong);
    wrong.iter().map(ToString::to_string).collect()
}

#[test]
fn the_embedded_default_needs_nothing() {
    let settings = settings(&[]);
    assert_eq!(wrong(&settings), [""; 0]);
    assert_eq!(settings.database.deployment(), Deployment::Embedded);
    assert_eq!(settings.database.url(Path::new("here")), "here/wharf.db");
    assert_eq!(settings.address_policy(), AddressPolicy::with_loopback());
}

#[test]
fn postgresql_needs_a_key_and_keeps_webhooks_out_of_private_networks() {
    let postgres = ("DATABASE_URL", "postgres://u:p@host/db");
    let said = wrong(&with_secrets(&[postgres]));
    assert!(said[0].contains("WHARF_ENCRYPTION_KEY must be set with PostgreSQL"));
    let settings = with_secrets(&[postgres, ("WHARF_ENCRYPTION_KEY", KEY)]);
    assert_eq!(wrong(&settings), [""; 0]);
    assert_eq!(settings.database.deployment(), Deployment::Shared);
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
fn wrong_secrets_are_all_named_and_none_is_repeated() {
    let said = wrong(&with_secrets(&[
        ("DATABASE_URL", "mysql://u:hidden@host/db"),
        ("REDIS_URL", "http://u:hidden@host"),
        ("WHARF_ENCRYPTION_KEY", "hidden"),
        ("WEBHOOK_SECRET", "hidden"),
    ]));
    let names = [
        "DATABASE_URL",
        "REDIS_URL",
        "WHARF_ENCRYPTION_KEY",
        "WEBHOOK_SECRET",
    ];
    assert_eq!(said.len(), names.len());
    for (said, name) in said.iter().zip(names) {
        assert!(said.starts_with(name) && !said.contains("hidden"), "{said}");
    }
}

#[test]
fn secrets_are_not_debugged() {
    let shown = format!(
        "{:?}",
        with_secrets(&[
            ("WEBHOOK_SECRET", "hidden"),
            ("REDIS_URL", "redis://:hidden@host"),
            ("WHARF_ENCRYPTION_KEY", KEY),
        ])
    );
    assert!(!shown.contains("hidden") && !shown.contains(KEY), "{shown}");
}

/// Whoever reaches the API from elsewhere must not reach what listens on this machine alone.
#[test]
fn an_open_host_sends_nothing_to_loopback() {
    let mut open = settings(&[]);
    open.webhooks.is_open = true;
    assert_eq!(open.address_policy(), AddressPolicy::default());
    let mut listed = settings(&["--webhook-allow-networks", "127.0.0.0/8"]);
    listed.webhooks.is_open = true;
    assert_eq!(listed.address_policy().allowed.len(), 1, "it was asked for");
}

#[test]
fn listed_networks_replace_the_default() {
    let policy = settings(&["--webhook-allow-networks", "none"]).address_policy();
    assert_eq!(policy, AddressPolicy::default());
}
