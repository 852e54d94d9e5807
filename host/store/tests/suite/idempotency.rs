//! Requests under a key: begun once, answered again, taken over from whoever is gone.

use anyhow::{Result, ensure};
use wharf_domain::Time;
use wharf_store::idempotency::{self, Begun, Claim, KeyedRequest};
use wharf_tests::{Backend, on_every_backend};

use crate::fixture::{Fixture, LEASE, NOW, SECOND, key, organization_id, random};

/// A day before the time of the tests.
const TOO_OLD: Time = Time::from_micros(NOW.as_micros() - 86_400_000_000);

fn request(key: &str, content: &str) -> KeyedRequest {
    KeyedRequest::new(organization_id("org"), "/route", key, content)
}

async fn begin(ledger: &Fixture, request: &KeyedRequest, now: Time) -> Result<Begun> {
    let mut conn = ledger.conn().await?;
    Ok(idempotency::begin(&mut conn, request, now + LEASE, TOO_OLD, now).await?)
}

async fn ours(ledger: &Fixture, request: &KeyedRequest, now: Time) -> Result<Claim> {
    match begin(ledger, request, now).await? {
        Begun::Ours(claim) => Ok(claim),
        other => anyhow::bail!("{other:?}"),
    }
}

async fn finish(ledger: &Fixture, claim: &Claim, answer: &[u8]) -> Result<bool> {
    let mut conn = ledger.conn().await?;
    Ok(idempotency::finish(&mut conn, &key(), claim, answer, random()).await?)
}

async fn a_key_is_used_once_and_its_answer_kept(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let one = request("k", "body");
    let claim = ours(&ledger, &one, NOW).await?;
    ensure!(matches!(begin(&ledger, &one, NOW).await?, Begun::InWork));
    let other = request("k", "another body");
    ensure!(matches!(begin(&ledger, &other, NOW).await?, Begun::Reused));
    ours(&ledger, &request("l", "body"), NOW).await?;
    for elsewhere in [
        KeyedRequest::new(organization_id("other"), "/route", "k", "another body"),
        KeyedRequest::new(organization_id("org"), "/elsewhere", "k", "another body"),
    ] {
        ours(&ledger, &elsewhere, NOW).await?;
    }
    assert!(finish(&ledger, &claim, b"whsec_secret").await?);
    assert!(
        !finish(&ledger, &claim, b"again").await?,
        "it has its answer"
    );
    let Begun::Answered(answer) = begin(&ledger, &one, NOW + LEASE * 9).await? else {
        panic!("it was answered")
    };
    assert_eq!(answer.open(&key())?, b"whsec_secret");
    ensure!(matches!(begin(&ledger, &other, NOW).await?, Begun::Reused));
    // As an operator with the database alone would read it.
    let readable = match backend {
        Backend::Postgres => {
            "select count(*) from idempotency_keys where position('whsec'::bytea in answer) > 0"
        }
        Backend::Embedded => {
            "select count(*) from idempotency_keys where instr(answer, x'7768736563') > 0"
        }
    };
    assert_eq!(ledger.number(readable).await?, 0);
    let mut conn = ledger.conn().await?;
    idempotency::release(&mut conn, &claim).await?;
    drop(conn);
    let again = begin(&ledger, &one, NOW).await?;
    ensure!(
        matches!(again, Begun::Answered(_)),
        "what was done is not given up"
    );
    Ok(())
}

async fn a_request_whose_holder_is_gone_is_taken_over(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let one = request("k", "body");
    let stale = ours(&ledger, &one, NOW).await?;
    let other = request("k", "another body");
    let late = begin(&ledger, &other, NOW + LEASE).await?;
    ensure!(matches!(late, Begun::Reused), "{late:?}");
    let taken = ours(&ledger, &one, NOW + LEASE).await?;
    assert!(!finish(&ledger, &stale, b"late").await?, "behind the fence");
    let mut conn = ledger.conn().await?;
    idempotency::release(&mut conn, &stale).await?;
    drop(conn);
    ensure!(matches!(
        begin(&ledger, &one, NOW + LEASE).await?,
        Begun::InWork
    ));
    let mut conn = ledger.conn().await?;
    idempotency::release(&mut conn, &taken).await?;
    drop(conn);
    let fresh = ours(&ledger, &other, NOW + LEASE).await?;
    assert!(
        finish(&ledger, &fresh, b"done").await?,
        "given up, it is anybody's"
    );
    Ok(())
}

async fn keys_are_counted_and_leave(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    for (n, seconds) in (0..3).zip([0, 1, 2]) {
        ours(
            &ledger,
            &request(&n.to_string(), ""),
            NOW + SECOND * seconds,
        )
        .await?;
    }
    let mut conn = ledger.conn().await?;
    for (organization, max, expected) in [("org", 2, 2), ("org", 9, 3), ("other", 9, 0)] {
        let counted = idempotency::count(&mut conn, &organization_id(organization), max).await?;
        assert_eq!(counted, expected);
    }
    // Too old, it counts as none also before it is removed.
    let begun = idempotency::begin(&mut conn, &request("0", "new"), NOW + LEASE, NOW, NOW).await?;
    ensure!(matches!(begun, Begun::Ours(_)), "{begun:?}");
    assert_eq!(idempotency::purge(&mut conn, NOW + SECOND, 1).await?, 1);
    assert_eq!(idempotency::purge(&mut conn, NOW + SECOND, 9).await?, 1);
    let left = idempotency::count(&mut conn, &organization_id("org"), 9).await?;
    assert_eq!(left, 1);
    Ok(())
}

on_every_backend!(
    a_key_is_used_once_and_its_answer_kept,
    a_request_whose_holder_is_gone_is_taken_over,
    keys_are_counted_and_leave,
);
