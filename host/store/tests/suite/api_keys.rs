//! API keys: held, listed, counted, ended, and moved from one key of the host to the next.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wharf_domain::{ApiKeyId, KeyScopes, OrganizationId, Time};
use wharf_store::{
    EncryptionKey, KeyRing,
    api_keys::{self, ApiKey, Held, NewApiKey, Whose},
    reseal::{self, Kind},
    statements,
};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    fixture::{Fixture, NOW, SECOND, key, organization_id, random, random_v7},
    plans::explain,
};

async fn add(
    ledger: &Fixture,
    keys: &KeyRing,
    organization: Option<&OrganizationId>,
    expires_at: Option<Time>,
) -> Result<(ApiKeyId, [u8; 32])> {
    let (id, secret) = (ApiKeyId(random_v7()), random());
    let new = NewApiKey {
        id,
        organization_id: organization,
        name: "shop",
        scopes: KeyScopes::parse("stores:read orders:write").map_err(|why| anyhow::anyhow!(why))?,
        made_by: "the test",
        expires_at,
    };
    let mut conn = ledger.conn().await?;
    api_keys::add(&mut conn, keys, &new, &secret, NOW).await?;
    Ok((id, secret))
}

async fn get(ledger: &Fixture, id: ApiKeyId) -> Result<ApiKey> {
    let found = api_keys::get(&mut ledger.conn().await?, id).await?;
    found.context("the key")
}

async fn a_key_is_held_against_its_own_secret(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let org = organization_id("org");
    let (one, secret) = add(&ledger, &key(), Some(&org), None).await?;
    let (other, _) = add(&ledger, &key(), None, Some(NOW + SECOND)).await?;
    let stored = get(&ledger, one).await?;
    assert_eq!(stored.organization_id, Some(org));
    assert_eq!(stored.scopes.to_string(), "orders:write stores:read");
    assert_eq!(
        (stored.expires_at, stored.last_used_at, stored.revoked_at),
        (None, None, None)
    );
    assert_eq!(stored.hold(&key(), &secret), Held::Right { renewed: None });
    assert_eq!(stored.hold(&key(), &random()), Held::Wrong);
    // One row's secret is not another row's, and another host's key knows none.
    let elsewhere = get(&ledger, other).await?;
    assert_eq!(elsewhere.hold(&key(), &secret), Held::Wrong);
    assert_eq!(
        (elsewhere.organization_id.clone(), elsewhere.expires_at),
        (None, Some(NOW + SECOND))
    );
    let stranger = KeyRing::from(EncryptionKey::new([99; 32]));
    assert_eq!(stored.hold(&stranger, &secret), Held::Unknown);
    let nobody = api_keys::get(&mut ledger.conn().await?, ApiKeyId(random_v7())).await?;
    ensure!(nobody.is_none());
    Ok(())
}

async fn a_key_moves_to_the_first_of_the_ring(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let [old, new] = [[1; 32], [2; 32]].map(EncryptionKey::new);
    let (by_old, both) = (
        KeyRing::from(old.clone()),
        KeyRing::new(new.clone(), [old.clone()]),
    );
    let (id, secret) = add(&ledger, &by_old, None, None).await?;
    let Held::Right {
        renewed: Some(renewed),
    } = get(&ledger, id).await?.hold(&both, &secret)
    else {
        anyhow::bail!("it is to be made anew");
    };
    let minute = NOW + Duration::from_secs(60);
    let mut tx = ledger.begin().await?;
    api_keys::note_use(&mut tx, &[(id, minute, Some(renewed.clone()))]).await?;
    tx.commit().await?;
    // Late, and from a process that read it before: it changes nothing any more.
    let mut tx = ledger.begin().await?;
    api_keys::note_use(
        &mut tx,
        &[(id, NOW, Some(renewed)), (ApiKeyId(random_v7()), NOW, None)],
    )
    .await?;
    tx.commit().await?;
    let stored = get(&ledger, id).await?;
    assert_eq!(stored.last_used_at, Some(minute), "it does not go back");
    assert_eq!(
        stored.hold(&KeyRing::from(new.clone()), &secret),
        Held::Right { renewed: None }
    );
    assert_eq!(stored.hold(&by_old, &secret), Held::Unknown);
    let counts = reseal::counts(&mut ledger.conn().await?).await?;
    let of_keys: Vec<_> = counts
        .iter()
        .filter(|count| count.kind == Kind::ApiKey)
        .collect();
    let [count] = of_keys[..] else {
        anyhow::bail!("{counts:?}")
    };
    assert_eq!((count.key, count.number), (Some(new.id()), 1));
    ensure!(!count.is_to_be_resealed(&both), "nobody but its client can");
    Ok(())
}

async fn an_end_counts_and_stays(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (org, other) = (organization_id("org"), organization_id("other"));
    let live = async |organization: Option<&OrganizationId>, max: i64, now: Time| -> Result<bool> {
        let mut tx = ledger.begin().await?;
        Ok(api_keys::has_room(&mut tx, organization, max, now).await?)
    };
    let (revoked, _) = add(&ledger, &key(), Some(&org), None).await?;
    let (ends, _) = add(&ledger, &key(), Some(&org), Some(NOW + SECOND)).await?;
    add(&ledger, &key(), None, None).await?;
    ensure!(!live(Some(&org), 2, NOW).await? && live(Some(&org), 3, NOW).await?);
    ensure!(live(Some(&other), 1, NOW).await? && !live(None, 1, NOW).await?);
    for at in [NOW, NOW + SECOND] {
        ensure!(api_keys::revoke(&mut ledger.conn().await?, revoked, at).await?);
    }
    assert_eq!(
        get(&ledger, revoked).await?.revoked_at,
        Some(NOW),
        "the first time stays"
    );
    ensure!(!api_keys::revoke(&mut ledger.conn().await?, ApiKeyId(random_v7()), NOW).await?);
    ensure!(live(Some(&org), 2, NOW).await? && !live(Some(&org), 1, NOW).await?);
    ensure!(live(Some(&org), 1, NOW + SECOND).await?, "both have ended");
    // What ended is kept for a while, and what did not for ever.
    let purge = async |too_old: Time| -> Result<u64> {
        let mut conn = ledger.conn().await?;
        Ok(api_keys::purge(&mut conn, Some(&org), too_old, 10).await?)
    };
    assert_eq!(purge(NOW - SECOND).await?, 0);
    assert_eq!(purge(NOW).await?, 1);
    ensure!(get(&ledger, revoked).await.is_err() && get(&ledger, ends).await.is_ok());
    assert_eq!(purge(NOW + SECOND).await?, 1);
    assert_eq!(
        ledger.number("select count(*) from api_keys").await?,
        1,
        "the operator's stays"
    );
    Ok(())
}

async fn lists_go_from_the_newest_on(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (org, other) = (organization_id("org"), organization_id("other"));
    let mut made = Vec::new();
    for number in 0..6 {
        let owner = [Some(&org), Some(&other), None][number % 3];
        made.push(add(&ledger, &key(), owner, None).await?.0);
    }
    made.sort();
    let ids = async |whose: Whose<'_>, before| -> Result<Vec<ApiKeyId>> {
        let mut conn = ledger.conn().await?;
        let page = api_keys::list(&mut conn, whose, before, 4).await?;
        Ok(page.into_iter().map(|key| key.id).collect())
    };
    let first = ids(Whose::Everybody, None).await?;
    let rest = ids(Whose::Everybody, first.last().copied()).await?;
    let newest: Vec<_> = made.iter().rev().copied().collect();
    assert_eq!([first, rest].concat(), newest);
    let own = ids(Whose::Organization(&org), None).await?;
    assert_eq!(own.len(), 2);
    assert_eq!(
        ids(Whose::Organization(&org), own.first().copied()).await?,
        own[1..]
    );
    Ok(())
}

/// An organization's keys are found among those of many, whatever is known of the table.
async fn an_organization_is_found_by_its_index(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (series, id, mac, now) = match backend {
        Backend::Postgres => (
            "generate_series(1, 20000) n",
            "gen_random_uuid()",
            "'\\x00'::bytea",
            "now()",
        ),
        Backend::Embedded => (
            "(with recursive s(n) as (select 1 union all select n + 1 from s where n < 20000) select n from s) numbers",
            "randomblob(16)",
            "x'00'",
            "1",
        ),
    };
    let fill = format!(
        "insert into api_keys (id, organization_id, name, scopes, mac, made_by, created_at)
         select {id}, 'org-' || n, 'k', 'stores:read', {mac}, 't', {now} from {series}"
    );
    ledger.sql.execute(&fill).await?;
    ledger.sql.execute("analyze api_keys").await?;
    let last = match backend {
        Backend::Postgres => "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        Backend::Embedded => "x'ffffffffffffffffffffffffffffffff'",
    };
    for (name, values) in [
        ("LIST_OF", [last, "51", "'org-7'"]),
        ("COUNT_LIVE", ["'org-7'", now, "100"]),
        ("PURGE", ["'org-7'", now, "100"]),
    ] {
        let full = format!("api_keys::{name}");
        let (_, sql) = statements()
            .find(|(one, _)| one.ends_with(&full))
            .context(full)?;
        let text = match backend {
            Backend::Postgres => sql.postgres,
            Backend::Embedded => sql.sqlite,
        };
        let mut text = text.to_owned();
        for (at, value) in values.iter().enumerate() {
            text = text.replace(&format!("${}", at + 1), value);
        }
        let plan = explain(ledger.url(), &text).await?;
        ensure!(plan.contains("api_keys_by_organization"), "{name}: {plan}");
    }
    Ok(())
}

on_every_backend!(
    a_key_is_held_against_its_own_secret,
    a_key_moves_to_the_first_of_the_ring,
    an_end_counts_and_stays,
    lists_go_from_the_newest_on,
    an_organization_is_found_by_its_index,
);
