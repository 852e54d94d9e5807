//! The keys of a deployment: what a wrong one is told, and how every value moves to a new one.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use wharf_domain::{EndpointId, EventKind};
use wharf_store::{
    Conn, EncryptionKey, KeyError, KeyId, KeyRing, Ledger, canary, endpoints,
    reseal::{self, Kind, Table},
    stores,
};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, NOW, key, organization_id, random};

/// Sealed with [`key`] by a version that knew no ring: the token `old-token` of the store (org, etsy, shop), and the secret
/// `[7; 32]` of the endpoint below.
const OLD_TOKEN: &str = "01544e62cee803370905050505050505050505050505050505050505050505050503b2b1bd83b186da5fdb74acfa774ac5e6606235ddd905633d";
const OLD_SECRET: &str = "01544e62cee80337090606060606060606060606060606060606060606060606060e16a9e6969286a418713becb41bde084810eb89586f6ab36a69ae5295b4f33df0b6fd3553521d784b5307bf1207fa5bea97665549451d0ae094ad6439372fb377fa";
const OLD_ENDPOINT: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const OLD_URL: &str = "http://127.0.0.1:9/hook";
/// What receivers of that endpoint verify with.
const OLD_PUBLIC_KEY: &str = "whpk_KJBbXcyZytLhTvKKDzCto1pTvU9/dgdVFkXhAcSygcY=";

fn new_key() -> EncryptionKey {
    EncryptionKey::new([43; 32])
}

fn old_key() -> EncryptionKey {
    EncryptionKey::new([42; 32])
}

/// `new,old`.
fn both() -> KeyRing {
    KeyRing::new(new_key(), [old_key()])
}

async fn check(ledger: &Ledger, keys: &KeyRing) -> Result<(), KeyError> {
    canary::check(ledger, keys, [random(), random(), random()], NOW).await
}

fn missing(checked: Result<(), KeyError>) -> Vec<KeyId> {
    match checked {
        Err(KeyError::Wrong { missing, .. }) => missing,
        other => panic!("{other:?}"),
    }
}

/// A literal of bytes, in the words of each database.
fn bytes(backend: Backend, hex: &str) -> String {
    match backend {
        Backend::Embedded => format!("x'{hex}'"),
        Backend::Postgres => format!("'\\x{hex}'"),
    }
}

/// A database as a version without a ring left it: a store, an endpoint, no canary.
async fn old_database(backend: Backend) -> Result<Fixture> {
    let ledger = Fixture::open(backend).await?;
    ledger.register("org", "shop").await?;
    ledger
        .endpoint("org", EventKind::SyncCompleted, OLD_URL)
        .await?;
    let id = match backend {
        Backend::Embedded => bytes(backend, &OLD_ENDPOINT.replace('-', "")),
        Backend::Postgres => format!("'{OLD_ENDPOINT}'"),
    };
    let (token, secret) = (bytes(backend, OLD_TOKEN), bytes(backend, OLD_SECRET));
    for sql in [
        format!("update stores set access_token = {token}"),
        format!("update webhook_endpoints set id = {id}, secret = {secret}"),
    ] {
        ledger.sql.execute(&sql).await?;
    }
    Ok(ledger)
}

async fn token(conn: &mut Conn, keys: &KeyRing) -> Result<String> {
    let (page, _) = stores_page(conn).await?;
    let store = stores::by_id(conn, page).await?.context("the store")?;
    Ok(store.access_token(keys)?.expose().to_owned())
}

async fn stores_page(conn: &mut Conn) -> Result<(wharf_domain::StoreId, usize)> {
    let page = reseal::read(conn, &key(), (Table::Stores, uuid::Uuid::nil()), 10, random).await?;
    let last = page.last.context("a store")?;
    Ok((wharf_domain::StoreId(last), page.rows))
}

async fn public_key(conn: &mut Conn, keys: &KeyRing) -> Result<String> {
    let id = EndpointId(OLD_ENDPOINT.parse()?);
    let found = endpoints::get(conn, &organization_id("org"), id).await?;
    let mut endpoint = found.context("the endpoint")?;
    endpoint.asymmetric = true;
    let secrets = endpoint.secrets(keys)?;
    secrets.public_key().context("a public key")
}

/// Everything, in one walk; returns the rows that changed.
async fn reseal_all(ledger: &Ledger, keys: &KeyRing) -> Result<u64> {
    let mut changed = 0;
    for table in [Table::Stores, Table::Endpoints] {
        let mut after = uuid::Uuid::nil();
        loop {
            let mut conn = ledger.read().await?;
            let page = reseal::read(&mut conn, keys, (table, after), 2, random).await?;
            drop(conn);
            let Some(last) = page.last else { break };
            let mut tx = ledger.begin().await?;
            changed += reseal::write(&mut tx, &page).await?;
            tx.commit().await?;
            after = last;
        }
    }
    Ok(changed)
}

/// Values by kind and key.
async fn counts(ledger: &Ledger) -> Result<BTreeMap<(Kind, KeyId), u64>> {
    let counts = reseal::counts(&mut ledger.read().await?).await?;
    let count = |count: reseal::SealedCount| Some(((count.kind, count.key?), count.number));
    Ok(counts.into_iter().filter_map(count).collect())
}

async fn an_empty_database_takes_the_first_key(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    check(&ledger, &key()).await?;
    check(&ledger, &key()).await?;
    assert_eq!(
        missing(check(&ledger, &new_key().into()).await),
        [old_key().id()]
    );
    let why = check(&ledger, &new_key().into())
        .await
        .expect_err("refused");
    for part in [
        "WHARF_ENCRYPTION_KEY",
        "544e62cee8033709",
        &new_key().id().to_string(),
        "new,old",
    ] {
        assert!(why.to_string().contains(part), "{why}");
    }
    assert_eq!(ledger.number("select count(*) from key_canaries").await?, 1);
    Ok(())
}

async fn a_ring_brings_the_new_key_in(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    check(&ledger, &key()).await?;
    check(&ledger, &both()).await?;
    // From now on values may be sealed with either key, so that one of them is not enough.
    assert_eq!(missing(check(&ledger, &key()).await), [new_key().id()]);
    assert_eq!(
        missing(check(&ledger, &new_key().into()).await),
        [old_key().id()]
    );
    check(&ledger, &KeyRing::new(old_key(), [new_key()])).await?;
    Ok(())
}

async fn of_two_that_meet_an_empty_database_one_is_refused(backend: Backend) -> Result<()> {
    for _ in 0..8 {
        let ledger = Fixture::open(backend).await?;
        let (old, new) = (key(), new_key().into());
        let (one, other) = tokio::join!(check(&ledger, &old), check(&ledger, &new));
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        assert_eq!(ledger.number("select count(*) from key_canaries").await?, 1);
    }
    Ok(())
}

async fn a_database_from_before_the_canaries_is_judged_by_its_values(
    backend: Backend,
) -> Result<()> {
    let ledger = old_database(backend).await?;
    assert_eq!(
        missing(check(&ledger, &new_key().into()).await),
        [old_key().id()]
    );
    assert_eq!(
        ledger.number("select count(*) from key_canaries").await?,
        0,
        "a refusal changes nothing"
    );
    check(&ledger, &both()).await?;
    assert_eq!(ledger.number("select count(*) from key_canaries").await?, 2);
    let mut conn = ledger.conn().await?;
    assert_eq!(token(&mut conn, &both()).await?, "old-token");
    assert_eq!(public_key(&mut conn, &both()).await?, OLD_PUBLIC_KEY);
    Ok(())
}

async fn every_value_moves_to_the_first_key(backend: Backend) -> Result<()> {
    let ledger = old_database(backend).await?;
    for n in 0..5 {
        ledger.register("org", &format!("shop-{n}")).await?;
        let url = format!("http://127.0.0.1:9/{n}");
        ledger.endpoint("org", EventKind::SyncFailed, &url).await?;
    }
    assert_eq!(reseal_all(&ledger, &both()).await?, 12);
    let all = counts(&ledger).await?;
    let new = new_key().id();
    let expected = [
        ((Kind::AccessToken, new), 6),
        ((Kind::Secret, new), 6),
        ((Kind::SigningRoot, new), 6),
        ((Kind::SyncToken, new), 6),
    ];
    assert_eq!(all, BTreeMap::from(expected));
    // The old key may go, and receivers keep their public keys.
    let alone = new_key().into();
    // A reader: the only writer of SQLite is needed below.
    let mut conn = ledger.read().await?;
    assert_eq!(token_of(&mut conn, "old-token", &alone).await?, 1);
    assert_eq!(public_key(&mut conn, &alone).await?, OLD_PUBLIC_KEY);
    assert_eq!(reseal_all(&ledger, &both()).await?, 0, "nothing is left");
    // And back again.
    assert_eq!(
        reseal_all(&ledger, &KeyRing::new(old_key(), [new_key()])).await?,
        12
    );
    assert_eq!(public_key(&mut conn, &key()).await?, OLD_PUBLIC_KEY);
    Ok(())
}

/// How many stores have this token.
async fn token_of(conn: &mut Conn, token: &str, keys: &KeyRing) -> Result<usize> {
    let mut found = 0;
    let mut after = uuid::Uuid::nil();
    loop {
        let page = reseal::read(conn, keys, (Table::Stores, after), 1, random).await?;
        let Some(id) = page.last else {
            return Ok(found);
        };
        let store = stores::by_id(conn, wharf_domain::StoreId(id)).await?;
        let store = store.context("the store")?;
        found += usize::from(store.access_token(keys)?.expose() == token);
        after = id;
    }
}

async fn a_value_that_changed_meanwhile_is_not_overwritten(backend: Backend) -> Result<()> {
    let ledger = old_database(backend).await?;
    let mut conn = ledger.conn().await?;
    let nil = uuid::Uuid::nil();
    let stores = reseal::read(&mut conn, &both(), (Table::Stores, nil), 10, random).await?;
    let hooks = reseal::read(&mut conn, &both(), (Table::Endpoints, nil), 10, random).await?;
    drop(conn);
    // Between reading and writing the store is registered again and the secret rotated.
    ledger.register("org", "shop").await?;
    let mut tx = ledger.begin().await?;
    let id = EndpointId(OLD_ENDPOINT.parse()?);
    let endpoint = endpoints::lock(&mut tx, &organization_id("org"), id).await?;
    let endpoint = endpoint.context("the endpoint")?;
    let secret = wharf_domain::EndpointSecret::from_random([8; 32]);
    let secrets = endpoint.secrets(&key())?;
    let secrets = secrets
        .rotated(secret.clone(), NOW, NOW)
        .expect("no overlap");
    let nonces = [random(), random(), random()];
    endpoints::save(&mut tx, &key(), &endpoint, Some(&secrets), nonces, NOW).await?;
    tx.commit().await?;
    let mut tx = ledger.begin().await?;
    // The store's own token is still what was read, and must not wait for the other.
    assert_eq!(reseal::write(&mut tx, &stores).await?, 1);
    assert_eq!(reseal::write(&mut tx, &hooks).await?, 0);
    tx.commit().await?;
    let sealed = counts(&ledger).await?;
    let number = |kind, keys: &KeyRing| sealed.get(&(kind, keys.first().id())).copied();
    assert_eq!(number(Kind::AccessToken, &key()), Some(1));
    assert_eq!(number(Kind::SyncToken, &both()), Some(1));
    let mut conn = ledger.conn().await?;
    assert_eq!(token(&mut conn, &both()).await?, "token");
    let endpoint = endpoints::get(&mut conn, &organization_id("org"), id).await?;
    let secrets = endpoint.context("the endpoint")?.secrets(&both())?;
    assert_eq!(secrets.current().expose(), secret.expose());
    Ok(())
}

async fn a_root_that_was_derived_survives_a_new_secret(backend: Backend) -> Result<()> {
    let ledger = old_database(backend).await?;
    let id = EndpointId(OLD_ENDPOINT.parse()?);
    let mut tx = ledger.begin().await?;
    let endpoint = endpoints::lock(&mut tx, &organization_id("org"), id).await?;
    let endpoint = endpoint.context("the endpoint")?;
    // Saved with the new key first, as by any change of the endpoint: its public key stays.
    let secrets = endpoint.secrets(&both())?;
    let nonces = [random(), random(), random()];
    endpoints::save(&mut tx, &both(), &endpoint, Some(&secrets), nonces, NOW).await?;
    tx.commit().await?;
    let mut conn = ledger.conn().await?;
    let alone = new_key().into();
    assert_eq!(public_key(&mut conn, &alone).await?, OLD_PUBLIC_KEY);
    Ok(())
}

async fn a_row_of_a_lost_key_keeps_what_it_has(backend: Backend) -> Result<()> {
    let ledger = old_database(backend).await?;
    let alone: KeyRing = new_key().into();
    let mut conn = ledger.conn().await?;
    let id = EndpointId(OLD_ENDPOINT.parse()?);
    let found = endpoints::get(&mut conn, &organization_id("org"), id).await?;
    let mut endpoint = found.context("the endpoint")?;
    assert!(endpoint.secrets(&alone).is_err());
    // Disabled without being opened, and rotated.
    endpoint.is_active = false;
    let nonces = [random(), random(), random()];
    endpoints::save(&mut conn, &alone, &endpoint, None, nonces, NOW).await?;
    assert_eq!(public_key(&mut conn, &key()).await?, OLD_PUBLIC_KEY);
    let secret = wharf_domain::EndpointSecret::from_random([8; 32]);
    let secrets = wharf_domain::Secrets::new(secret.clone());
    endpoints::save(&mut conn, &alone, &endpoint, Some(&secrets), nonces, NOW).await?;
    assert_ne!(public_key(&mut conn, &alone).await?, OLD_PUBLIC_KEY);
    let page = reseal::read(
        &mut conn,
        &alone,
        (Table::Stores, uuid::Uuid::nil()),
        10,
        random,
    )
    .await?;
    assert_eq!(page.unreadable, BTreeMap::from([(Some(old_key().id()), 1)]));
    Ok(())
}

async fn a_lost_key_can_be_given_up(backend: Backend) -> Result<()> {
    let ledger = old_database(backend).await?;
    check(&ledger, &key()).await?;
    let mut conn = ledger.conn().await?;
    assert_eq!(canary::needed(&mut conn).await?, [old_key().id()]);
    assert!(!canary::remove(&mut conn, new_key().id()).await?);
    assert!(canary::remove(&mut conn, old_key().id()).await?);
    canary::add(&mut conn, &new_key().into(), random(), NOW).await?;
    drop(conn);
    check(&ledger, &new_key().into()).await?;
    Ok(())
}

async fn an_old_schema_is_named(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    ledger.sql.execute("drop table key_canaries").await?;
    let refused = check(&ledger, &key()).await.expect_err("no table");
    assert!(matches!(refused, KeyError::Schema(_)), "{refused}");
    assert!(refused.to_string().contains("wharf migrate"), "{refused}");
    Ok(())
}

on_every_backend!(
    an_empty_database_takes_the_first_key,
    a_ring_brings_the_new_key_in,
    of_two_that_meet_an_empty_database_one_is_refused,
    a_database_from_before_the_canaries_is_judged_by_its_values,
    every_value_moves_to_the_first_key,
    a_value_that_changed_meanwhile_is_not_overwritten,
    a_root_that_was_derived_survives_a_new_secret,
    a_row_of_a_lost_key_keeps_what_it_has,
    a_lost_key_can_be_given_up,
    an_old_schema_is_named,
);
