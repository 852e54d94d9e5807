//! How syncTokens are kept: a copy of the database tells none, and those of before are hidden.

use anyhow::{Context, Result};
use uuid::Uuid;
use wharf_domain::{
    AccessToken, Currency, ExternalStoreId, MarketplaceName, Receipt, StoreId, StoreName, SyncToken,
};
use wharf_store::{
    EncryptionKey, KeyRing, logs,
    reseal::{self, Table},
    stores::{self, token},
};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    care::remove,
    fixture::{Fixture, NOW, key, organization_id, random, random_v4, random_v7},
};

/// What a copy of the database tells of a store's token, and whether it is hidden.
async fn copied(ledger: &Fixture, store: StoreId) -> Result<(SyncToken, bool)> {
    let id = ledger.sql.id(&store.to_string());
    let row = ledger
        .sql
        .row(&format!(
            "select sync_token, case when sync_token_sealed is null then 0 else 1 end as hidden
             from stores where id = {id}"
        ))
        .await?;
    let column = row["sync_token"].as_str().context("a token")?.parse()?;
    Ok((SyncToken(column), row["hidden"] == 1))
}

async fn finds(ledger: &Fixture, token: SyncToken) -> Result<Option<StoreId>> {
    let mut conn = ledger.read().await?;
    let receipt = Receipt::parse("r")?;
    let found = stores::by_token(&mut conn, token).await?;
    let looked_up = logs::look_up(&mut conn, token, &receipt).await?;
    let id = found.map(|store| store.id);
    assert_eq!(looked_up.map(|(store, _)| store.id), id);
    assert_eq!(
        stores::report(&mut conn, token).await?.is_some(),
        id.is_some()
    );
    Ok(id)
}

async fn reseal(ledger: &Fixture, keys: &KeyRing) -> Result<u64> {
    let place = (Table::Stores, Uuid::nil());
    let page = reseal::read(&mut ledger.read().await?, keys, place, 100, random).await?;
    let mut tx = ledger.begin().await?;
    let changed = reseal::write(&mut tx, &page).await?;
    tx.commit().await?;
    Ok(changed)
}

/// A program of before made this database and registered stores in it.
async fn of_before(backend: Backend) -> Result<Fixture> {
    let ledger = Fixture::open(backend).await?;
    let unmark = "delete from _sqlx_migrations where version = 1000015";
    assert_eq!(
        ledger.sql.execute(unmark).await?,
        1,
        "a new database is marked"
    );
    Ok(ledger)
}

async fn a_copy_of_the_database_tells_no_token(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let (column, is_hidden) = copied(&ledger, store).await?;
    assert!(is_hidden && column != token);
    assert_eq!(finds(&ledger, token).await?, Some(store));
    assert_eq!(
        finds(&ledger, column).await?,
        None,
        "what was read opens nothing"
    );
    assert_eq!(ledger.register("org", "shop").await?, (store, token));
    // A new key comes in, and the old one leaves: the token stays.
    let [old, new] = [key(), EncryptionKey::new([9; 32]).into()];
    let both = KeyRing::new(EncryptionKey::new([9; 32]), [old.first().clone()]);
    assert_eq!(reseal(&ledger, &both).await?, 1);
    assert_eq!(reseal(&ledger, &both).await?, 0);
    assert_eq!(finds(&ledger, token).await?, Some(store));
    let again = register_with(&ledger, &new, "shop").await?;
    assert_eq!((again.id, again.sync_token), (store, token));
    // Where the key is lost the owner gets another token, and the old one is none any more.
    let lost = EncryptionKey::new([1; 32]).into();
    let again = register_with(&ledger, &lost, "shop").await?;
    assert!(again.id == store && again.sync_token != token);
    assert_eq!(finds(&ledger, again.sync_token).await?, Some(store));
    assert_eq!(finds(&ledger, token).await?, None);
    Ok(())
}

async fn register_with(
    ledger: &Fixture,
    keys: &KeyRing,
    external: &str,
) -> Result<stores::Registered> {
    let new = stores::NewStore {
        id: StoreId(random_v7()),
        sync_token: SyncToken(random_v4()),
        organization_id: &organization_id("org"),
        marketplace: &MarketplaceName::parse("etsy")?,
        external_store_id: &ExternalStoreId::parse(external)?,
        store_name: &StoreName::parse("A store")?,
        access_token: &AccessToken::parse("token")?,
        currency: Currency::parse("USD")?,
        nonce: random(),
        token_nonce: random(),
    };
    let mut tx = ledger.begin().await?;
    let registered = stores::register(&mut tx, keys, &new, NOW).await?;
    tx.commit().await?;
    Ok(registered)
}

async fn tokens_of_before_are_found_and_then_hidden(backend: Backend) -> Result<()> {
    let ledger = of_before(backend).await?;
    let (store, token) = ledger.register("org", "shop").await?;
    let (removed, removed_token) = ledger.register("org", "removed").await?;
    assert_eq!(
        copied(&ledger, store).await?,
        (token, false),
        "as a program of before needs it"
    );
    assert_eq!(finds(&ledger, token).await?, Some(store));
    ledger.migrate().await?;
    let (other, _) = ledger.register("org", "other").await?;
    assert!(
        !copied(&ledger, other).await?.1,
        "a migration alone hides nothing"
    );
    token::hide(&mut ledger.conn().await?).await?;
    token::hide(&mut ledger.conn().await?).await?;
    assert!(ledger.check_schema().await.is_ok());
    let (late, late_token) = ledger.register("org", "late").await?;
    assert!(copied(&ledger, late).await?.1);
    assert_eq!(ledger.register("org", "shop").await?, (store, token));
    assert_eq!(token::in_clear(&mut ledger.read().await?).await?, 3);
    // A removal between the look and the write of a reseal is not undone by it.
    let place = (Table::Stores, Uuid::nil());
    let page = reseal::read(&mut ledger.read().await?, &key(), place, 100, random).await?;
    assert!(remove(&ledger, removed).await?);
    let mut tx = ledger.begin().await?;
    assert_eq!(reseal::write(&mut tx, &page).await?, 2);
    tx.commit().await?;
    assert_eq!(finds(&ledger, removed_token).await?, None);
    assert_eq!(token::in_clear(&mut ledger.read().await?).await?, 0);
    for (id, token) in [(store, token), (late, late_token)] {
        let (column, is_hidden) = copied(&ledger, id).await?;
        assert!(is_hidden && column != token);
        assert_eq!(finds(&ledger, token).await?, Some(id));
        assert_eq!(finds(&ledger, column).await?, None);
    }
    assert_eq!(ledger.register("org", "shop").await?, (store, token));
    Ok(())
}

on_every_backend!(
    a_copy_of_the_database_tells_no_token,
    tokens_of_before_are_found_and_then_hidden,
);
