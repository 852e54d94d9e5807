use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, Write},
};

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use wharf_app::{ResealProgress, Resealed};
use wharf_domain::{Clock, SystemClock};
use wharf_store::{
    KeyId, KeyRing, Ledger, canary,
    reseal::{self, Kind, SealedCount},
    stores::token,
};

use crate::{
    key::KeyArgs,
    output::{self, Format},
    settings::{DataArgs, DatabaseArgs, SettingError, database_help, encryption_key_help},
    usage::UsageError,
    wiring,
};

/// `wharf keys`.
#[derive(Args)]
#[command(after_help = concat!("\
A new key, step by step; hosts go on working meanwhile:
  1. WHARF_ENCRYPTION_KEY=old,new on every process, so that all of them can read what the new key seals
  2. WHARF_ENCRYPTION_KEY=new,old on every process: from now on the new key seals
  3. WHARF_ENCRYPTION_KEY=new,old wharf keys reseal
  4. WHARF_ENCRYPTION_KEY=new on every process, once `wharf keys status` counts nothing under the old key

On one machine the key file takes the same form; begin with step 2.", database_help!(), encryption_key_help!()))]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Count what is encrypted, by key.
    #[command(after_help = "\
Examples:
  wharf keys status
  wharf keys status --json | jq '.keys[] | {keyId, given, values}'

It works with a wrong key too, and tells which one is needed. A key's id is the beginning of its SHA-256.")]
    Status(Place),
    /// Encrypt everything anew with the first key, beside hosts that work.
    #[command(after_help = "\
Examples:
  WHARF_ENCRYPTION_KEY=new,old wharf keys reseal
  wharf keys reseal --json

Safe to stop and to run again: it goes on where something is left.")]
    Reseal(Place),
    /// Give up a key that is lost for good, so that hosts start without it.
    #[command(after_help = "\
Examples:
  wharf keys status                           tells the id of the key that is missing
  wharf keys abandon 544e62cee8033709

Look for a copy of the key first: what it encrypted can never be read again. Afterwards register each store again with its
access token, and rotate each webhook's secret; until then its deliveries wait.")]
    Abandon(Abandon),
}

#[derive(Args)]
struct Place {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

#[derive(Args)]
struct Abandon {
    /// The lost key's id
    key_id: String,
    #[command(flatten)]
    place: Place,
}

impl KeysArgs {
    /// Tells what clap could not judge.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        let place = match &self.command {
            KeysCommand::Status(place) | KeysCommand::Reseal(place) => place,
            KeysCommand::Abandon(args) => &args.place,
        };
        place.database.check(wrong);
        wrong.extend(place.keys.check(&place.database).err());
    }
}

/// Does what the subcommand says.
pub(crate) async fn run(args: KeysArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        KeysCommand::Status(place) => status(&place, format).await,
        KeysCommand::Reseal(place) => reseal(&place, format).await,
        KeysCommand::Abandon(args) => abandon(&args, format).await,
    }
}

impl Place {
    async fn open(&self) -> anyhow::Result<Ledger> {
        let ledger = wiring::open_ledger(&self.data, &self.database, "keys").await?;
        ledger.check_schema().await?;
        Ok(ledger)
    }
}

async fn status(place: &Place, format: Format) -> anyhow::Result<()> {
    let ledger = place.open().await?;
    // `given` and not `open`: it has to work with a wrong key, and must not make one.
    let given = place.keys.given(&place.data)?;
    let counts = reseal::counts(&mut ledger.read().await?).await?;
    let needed = canary::needed(&mut ledger.read().await?).await?;
    let in_clear = token::in_clear(&mut ledger.read().await?).await?;
    ledger.close().await;
    let lines = Line::of(&counts, given.as_ref(), &needed);
    match format {
        Format::Json => {
            let lines: Vec<Value> = lines.iter().map(Line::json).collect();
            output::json(&json!({"keys": lines, "tokensInClear": in_clear}))?;
        }
        Format::Text => {
            if in_clear > 0 {
                output::complain(&format!(
                    "{in_clear} sync tokens stand in the clear: run `wharf keys reseal` once every host is of this release"
                ));
            }
            output::line(&output::table(
                [
                    "key",
                    "given",
                    "access tokens",
                    "sync tokens",
                    "secrets",
                    "retired",
                    "roots",
                    "API keys",
                    "to reseal",
                ],
                lines.iter().map(Line::cells),
            ));
        }
    }
    Ok(())
}

/// A key with what is sealed with it.
struct Line {
    key: Option<KeyId>,
    given: &'static str,
    values: BTreeMap<Kind, u64>,
    to_reseal: u64,
}

impl Line {
    /// The first key, the others that are given, and those that are not.
    fn of(counts: &[SealedCount], given: Option<&KeyRing>, needed: &[KeyId]) -> Vec<Self> {
        // In the order of the setting: the first seals.
        let ring: Vec<KeyId> = given.iter().flat_map(|keys| keys.ids()).collect();
        let in_use = counts.iter().map(|count| count.key);
        let in_use = in_use.chain(needed.iter().copied().map(Some));
        let unknown: BTreeSet<Option<KeyId>> = in_use
            .filter(|key| !key.is_some_and(|key| ring.contains(&key)))
            .collect();
        let keys = ring.iter().copied().map(Some).chain(unknown);
        keys.map(|key| {
            let mut line = Self {
                key,
                given: match key.and_then(|key| ring.iter().position(|of| *of == key)) {
                    Some(0) => "first",
                    Some(_) => "yes",
                    None => "no",
                },
                values: BTreeMap::new(),
                to_reseal: 0,
            };
            for count in counts.iter().filter(|count| count.key == key) {
                *line.values.entry(count.kind).or_default() += count.number;
                if given.is_some_and(|keys| count.is_to_be_resealed(keys)) {
                    line.to_reseal += count.number;
                }
            }
            line
        })
        .collect()
    }

    fn number(&self, kind: Kind) -> u64 {
        self.values.get(&kind).copied().unwrap_or_default()
    }

    fn cells(&self) -> [String; 9] {
        [
            self.key.map_or("(none)".into(), |key| key.to_string()),
            self.given.into(),
            self.number(Kind::AccessToken).to_string(),
            self.number(Kind::SyncToken).to_string(),
            self.number(Kind::Secret).to_string(),
            self.number(Kind::RetiredSecrets).to_string(),
            self.number(Kind::SigningRoot).to_string(),
            self.number(Kind::ApiKey).to_string(),
            self.to_reseal.to_string(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "keyId": self.key.map(|key| key.to_string()),
            "given": self.given,
            "values": {
                "accessTokens": self.number(Kind::AccessToken),
                "syncTokens": self.number(Kind::SyncToken),
                "secrets": self.number(Kind::Secret),
                "retiredSecrets": self.number(Kind::RetiredSecrets),
                "signingRoots": self.number(Kind::SigningRoot),
                "apiKeys": self.number(Kind::ApiKey),
            },
            "toReseal": self.to_reseal,
        })
    }
}

async fn reseal(place: &Place, format: Format) -> anyhow::Result<()> {
    let ledger = place.open().await?;
    // Held against the database first: with a wrong key every row would count as unreadable.
    let keys = place.keys.open(&place.data, &ledger).await?;
    let shown = std::io::stderr().is_terminal();
    let done = wharf_app::reseal(&ledger, &keys, |at| {
        // A log that is no terminal would keep every step of the line.
        if shown {
            show(at);
        }
    })
    .await;
    if shown {
        output::complain("");
    }
    // After the line of progress is ended, or the error would stand behind it.
    let done = done?;
    ledger.close().await;
    report(&done, &keys, format)?;
    ensure!(
        done.remaining == 0,
        "{} values are still sealed with another key: a running host seals with it. Put the new key first on every \
         process, then run this again",
        done.remaining
    );
    ensure!(
        done.in_clear == 0,
        "{} sync tokens stand in the clear: a host of a release before registered their stores. Bring every host to this release, then run this again",
        done.in_clear
    );
    Ok(())
}

/// One line on a terminal, written over and over.
fn show(ResealProgress { rows, of }: ResealProgress) {
    // Rows that are added meanwhile were not counted: it stops at 100.
    let percent = (rows * 100).checked_div(of).unwrap_or(100).min(100);
    let mut stderr = std::io::stderr().lock();
    // Progress is a courtesy: a terminal that has gone away ends no reseal.
    let _ = write!(stderr, "\r{rows} of {of} rows ({percent} %)");
    let _ = stderr.flush();
}

fn report(done: &Resealed, keys: &KeyRing, format: Format) -> anyhow::Result<()> {
    let id = |key: &Option<KeyId>| key.map_or("(none)".to_owned(), |key| key.to_string());
    let retired: Vec<String> = done.retired.iter().map(ToString::to_string).collect();
    let first = keys.first().id();
    if format == Format::Json {
        let unreadable: BTreeMap<String, u64> = done
            .unreadable
            .iter()
            .map(|(key, rows)| (id(key), *rows))
            .collect();
        output::json(&json!({
            "keyId": first.to_string(), "resealedRows": done.rows, "remainingValues": done.remaining,
            "tokensInClear": done.in_clear,
            "unreadableRows": unreadable, "retiredKeys": retired,
        }))?;
        return Ok(());
    }
    output::line(&format!("{} rows were sealed with key {first}", done.rows));
    for (key, rows) in &done.unreadable {
        let key = id(key);
        output::line(&format!(
            "{rows} rows are sealed with key {key}, which is not given: they stay as they are"
        ));
    }
    for key in retired {
        output::line(&format!("key {key} is not used any more"));
    }
    Ok(())
}

async fn abandon(args: &Abandon, format: Format) -> anyhow::Result<()> {
    let place = &args.place;
    // Before the database is opened: a typing error must not touch anything.
    let lost = KeyId::parse(&args.key_id)
        .ok_or_else(|| UsageError::new("KEY_ID must be the 16 hexadecimal digits of a key's id"))?;
    let ledger = place.open().await?;
    // Not `open`, which refuses exactly this: a key file that is missing. The new one is made here.
    let keys = place.keys.given_or_made(&place.data)?;
    ensure!(
        // To give up a key that is at hand would throw away what can still be read.
        !keys.holds(lost),
        "key {lost} is given, so it is not lost: run `wharf keys reseal` instead"
    );
    let known = wharf_app::abandon_key(&ledger, &keys, lost, SystemClock.now()).await?;
    ledger.close().await;
    ensure!(
        known,
        "the database does not ask for key {lost}: see `wharf keys status`"
    );
    let first = keys.first().id().to_string();
    match format {
        Format::Json => output::json(&json!({"abandoned": lost.to_string(), "keyId": first}))?,
        Format::Text => output::line(&format!(
            "key {lost} is given up; hosts start with key {first}. Register stores again with their tokens and rotate the \
             secrets of webhooks"
        )),
    }
    Ok(())
}
