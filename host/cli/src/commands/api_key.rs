//! `wharf key`: make, list and revoke API keys, on the database itself: the first one is made before any host can be asked.

use std::time::Duration;

use clap::{Args, Subcommand, value_parser};
use serde_json::{Value, json};
use wharf_app::{ApiKey, ApiKeyRequest, MAX_KEYS_PER_PAGE};
use wharf_domain::{ApiKeyId, Clock, KeyScopes, OrganizationId, SystemClock, Time, bounded_text};
use wharf_store::{KeyRing, Ledger};

use crate::{
    key::KeyArgs as EncryptionKeyArgs,
    output::{self, Format, table, text},
    settings::{DataArgs, DatabaseArgs, SettingError, database_help, encryption_key_help},
    usage::UsageError,
    wiring,
};

/// `wharf key`.
#[derive(Args)]
#[command(after_help = concat!("\
Examples:
  wharf key create --org org-123 --name backend --scopes \"stores:write orders:write\"
  wharf key create --operator --name ci --scopes \"plugins:*\" --expires-in-days 90
  wharf key list --org org-123
  wharf key revoke 0190a5e4-7b1c-7def-8abc-0123456789ab

Scopes: orders:read orders:write stores:read stores:write webhooks:read webhooks:write webhooks:secrets
deliveries:read deliveries:write keys:*, and for operators plugins:* and operator.

They work on the database; a running host has the same as /admin/keys.", database_help!(), encryption_key_help!()))]
pub(crate) struct ApiKeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key and print it, once.
    Create(CreateArgs),
    /// Keys, the newest first, with those that ended in the last 90 days.
    List(ListArgs),
    /// Revoke a key for good; every host refuses it within ten seconds.
    Revoke(RevokeArgs),
}

#[derive(Args)]
struct Place {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    keys: EncryptionKeyArgs,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf key create --org org-123 --name backend --scopes \"stores:write orders:write\"
  wharf key create --operator --name ops --scopes operator
  WHARF_API_KEY=$(wharf key create --operator --name ci --scopes \"plugins:*\" --json | jq -r .key)

It makes the schema and the key file as `wharf serve` would where there are none.")]
struct CreateArgs {
    #[command(flatten)]
    of: OfArgs,
    /// The key's name for people
    #[arg(long, value_parser = name)]
    name: String,
    /// What it may be used for: scopes divided by blanks
    #[arg(long, value_parser = scopes)]
    scopes: KeyScopes,
    /// Days until it ends [default: it ends when it is revoked]
    #[arg(long, value_parser = value_parser!(u32).range(1..=3_650))]
    expires_in_days: Option<u32>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct OfArgs {
    /// The organization that it is of, and the only one that it reaches
    #[arg(long, value_parser = organization)]
    org: Option<OrganizationId>,
    /// It is an operator's, who may name any organization
    #[arg(long)]
    operator: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf key list
  wharf key list --org org-123 --json | jq -r '.keys[].id'")]
struct ListArgs {
    /// Only keys of this organization
    #[arg(long, value_parser = organization)]
    org: Option<OrganizationId>,
    /// Page size, up to 100
    #[arg(long, default_value = "100", value_parser = value_parser!(u32).range(1..=100))]
    limit: u32,
    /// `nextCursor` of the previous page
    #[arg(long)]
    cursor: Option<ApiKeyId>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  wharf key revoke 0190a5e4-7b1c-7def-8abc-0123456789ab")]
struct RevokeArgs {
    /// The key's id, which stands in the key as well
    id: ApiKeyId,
    #[command(flatten)]
    place: Place,
}

fn name(text: &str) -> Result<String, String> {
    const MAX: usize = 64;
    bounded_text(text, MAX).map_err(|why| why.0)
}

fn scopes(text: &str) -> Result<KeyScopes, String> {
    KeyScopes::parse(text).map_err(|why| why.0)
}

fn organization(text: &str) -> Result<OrganizationId, String> {
    OrganizationId::parse(text).map_err(|why| why.0)
}

impl ApiKeyArgs {
    /// Tells what clap could not judge.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        let place = match &self.command {
            KeyCommand::Create(args) => &args.place,
            KeyCommand::List(args) => &args.place,
            KeyCommand::Revoke(args) => &args.place,
        };
        place.database.check(wrong);
        // A list needs no host's key, and a revocation neither; but a wrong setting is told all the same.
        wrong.extend(place.keys.check(&place.database).err());
    }
}

/// Runs the subcommand.
pub(crate) async fn run(args: ApiKeyArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        KeyCommand::Create(args) => create(args, format).await,
        KeyCommand::List(args) => list(args, format).await,
        KeyCommand::Revoke(args) => revoke(args, format).await,
    }
}

/// The name of whoever runs a command here: a claim, as all that the environment says.
fn operator() -> String {
    const MAX: usize = 64;
    let user = std::env::var("USER").unwrap_or_default();
    format!("wharf key {user:.MAX$}").trim_end().to_owned()
}

impl Place {
    /// The database and its keys, made where there are none, as a host would make them.
    async fn open_or_make(&self) -> anyhow::Result<(Ledger, KeyRing)> {
        let ledger = wiring::open_ledger(&self.data, &self.database, "key").await?;
        wiring::migrate(&ledger).await?;
        let keys = self.keys.open(&self.data, &ledger).await?;
        Ok((ledger, keys))
    }

    async fn open(&self) -> anyhow::Result<Ledger> {
        let ledger = wiring::open_ledger(&self.data, &self.database, "key").await?;
        ledger.check_schema().await?;
        Ok(ledger)
    }
}

async fn create(args: CreateArgs, format: Format) -> anyhow::Result<()> {
    if args.of.org.is_some() {
        let checked = args.scopes.check_for_organization();
        checked.map_err(|why| UsageError::new(format!("--scopes {why}")))?;
    }
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (ledger, keys) = args.place.open_or_make().await?;
    let request = ApiKeyRequest {
        organization: args.of.org,
        name: args.name,
        scopes: args.scopes,
        life: args.expires_in_days.map(|days| DAY * days),
        made_by: operator(),
    };
    let now = SystemClock.now();
    let made = wharf_app::create_api_key(&ledger, &keys, &request, now).await;
    ledger.close().await;
    let made = made?;
    let mut answer = shown(&made.stored);
    answer["key"] = made.key.into();
    output::answer(format, &answer, |answer| {
        format!(
            "{}\n\nThis is the only time that it is shown. It is the key {}",
            text(&answer["key"]),
            text(&answer["id"])
        )
    })
}

async fn list(args: ListArgs, format: Format) -> anyhow::Result<()> {
    let ledger = args.place.open().await?;
    let limit = usize::try_from(args.limit).unwrap_or(MAX_KEYS_PER_PAGE);
    let page = wharf_app::list_api_keys(&ledger, args.org.as_ref(), args.cursor, limit).await;
    ledger.close().await;
    let page = page?;
    let keys: Vec<Value> = page.keys.iter().map(shown).collect();
    let next = page.next.map(|id| id.to_string());
    let answer = json!({"keys": keys, "nextCursor": next});
    let now = SystemClock.now().to_string();
    output::answer(format, &answer, |answer| in_words(answer, &now))
}

async fn revoke(args: RevokeArgs, format: Format) -> anyhow::Result<()> {
    let ledger = args.place.open().await?;
    let revoked = wharf_app::revoke_api_key(&ledger, args.id, &operator(), SystemClock.now()).await;
    ledger.close().await;
    revoked?;
    let answer = json!({"revoked": args.id.to_string()});
    output::answer(format, &answer, |_| {
        format!(
            "key {} is revoked; every host refuses it within ten seconds",
            args.id
        )
    })
}

/// A key in the words of `GET /admin/keys`.
fn shown(key: &ApiKey) -> Value {
    let time = |at: Option<Time>| at.map(|at| at.to_string());
    json!({
        "id": key.id.to_string(),
        "organizationId": key.organization_id.as_ref().map(OrganizationId::as_str),
        "name": key.name,
        "scopes": key.scopes.to_string(),
        "madeBy": key.made_by,
        "createdAt": key.created_at.to_string(),
        "expiresAt": time(key.expires_at),
        "lastUsedAt": time(key.last_used_at),
        "revokedAt": time(key.revoked_at),
    })
}

fn in_words(answer: &Value, now: &str) -> String {
    let header = ["ID", "ORGANIZATION", "NAME", "SCOPES", "LAST USED", "STATE"];
    let rows = answer["keys"].as_array().into_iter().flatten().map(|key| {
        let column = |name: &str| text(&key[name]);
        let organization = match key["organizationId"].as_str() {
            Some(_) => column("organizationId"),
            None => "(operator)".into(),
        };
        let used = match key["lastUsedAt"].as_str() {
            Some(at) => at.to_owned(),
            None => "never".into(),
        };
        [
            column("id"),
            organization,
            column("name"),
            column("scopes"),
            used,
            state(key, now),
        ]
    });
    let keys = table(header, rows);
    match answer["nextCursor"].as_str() {
        Some(next) => format!("{keys}\n\nmore: wharf key list --cursor {next}"),
        None => keys,
    }
}

fn state(key: &Value, now: &str) -> String {
    // Times of one form sort as texts.
    match (key["revokedAt"].as_str(), key["expiresAt"].as_str()) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) if at <= now => format!("expired {at}"),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "good".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_a_key_is_good_for() {
        let key = json!({"id": "1", "organizationId": null, "name": "ci", "scopes": "plugins:*", "lastUsedAt": null,
            "expiresAt": "2026-02-01T00:00:00.000Z", "revokedAt": null});
        let now = "2026-01-01T00:00:00.000Z";
        let words = in_words(&json!({"keys": [key], "nextCursor": null}), now);
        for word in ["(operator)", "ci", "plugins:*", "never", "until 2026-02-01"] {
            assert!(words.contains(word), "{words}");
        }
        assert_eq!(
            state(&key, "2026-03-01T00:00:00.000Z"),
            "expired 2026-02-01T00:00:00.000Z"
        );
        let revoked = json!({"revokedAt": "2026-01-15T00:00:00.000Z"});
        assert_eq!(state(&revoked, now), "revoked 2026-01-15T00:00:00.000Z");
        assert_eq!(state(&json!({}), now), "good");
    }
}
