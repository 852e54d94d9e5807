//! What receipts tell of their attempts, and redriving them.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use wharf_domain::{
    Answer, AnswerKind, LogId, LogStatus, MAX_REFUSALS, RequestId, StoreId, Time, next_state,
};
use wharf_store::{
    logs::{
        self, LogFilter, NewLog, SettledLog, ToRedrive,
        attempts::{self, MAX_ATTEMPTS},
    },
    stores,
};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    fixture::{Fixture, NOW, SECOND, accepted, judged},
    logs::run,
    receipts::{refused, resting},
};

/// Asks about all that is due at `at`, with this answer.
async fn settle(ledger: &Fixture, store: StoreId, answer: Answer, at: Time) -> Result<()> {
    let due = logs::due(&mut ledger.conn().await?, store, at, 10).await?;
    assert!(!due.is_empty(), "nothing is due");
    settle_as_seen(ledger, store, due, answer, at)
        .await
        .map(drop)
}

async fn settle_as_seen(
    ledger: &Fixture,
    store: StoreId,
    due: Vec<logs::DueLog>,
    answer: Answer,
    at: Time,
) -> Result<logs::Settled> {
    let settled = |log: logs::DueLog| SettledLog {
        state: next_state(log.before(), answer.clone(), at),
        plugin_digest: Some("d2".into()),
        log,
    };
    let logs: Vec<_> = due.into_iter().map(settled).collect();
    let mut tx = ledger.begin().await?;
    let put_off = answer.is_put_off();
    let written = if put_off {
        logs::put_off(&mut tx, store, &logs, at).await?;
        None
    } else {
        Some(logs::settle(&mut tx, store, &logs, &run(), at).await?)
    };
    tx.commit().await?;
    Ok(written.unwrap_or(logs::Settled {
        status: wharf_domain::SyncStatus::Pending,
        exhausted: Vec::new(),
    }))
}

async fn a_receipt_tells_of_its_attempts(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let mut fails = judged(store, "fails", Answer::Unavailable("down".into()), NOW);
    fails.request_id = Some(RequestId::from_stored("import-1".into()));
    let mut done = judged(store, "done", accepted(), NOW);
    done.request_id = Some(RequestId::from_stored("import-2".into()));
    let (fails_id, done_id) = (fails.id, done.id);
    // The second of one receipt is not stored, and neither is its attempt.
    ledger.record(&[fails.clone(), done]).await?;
    ledger
        .record(&[refused(store, "done", NOW + SECOND)])
        .await?;
    let rows = "select count(*) from sync_log_attempts";
    assert_eq!(ledger.number(rows).await?, 1, "a first success has no row");
    let out = Answer::Deferred {
        reason: "out".into(),
        wait: Duration::ZERO,
    };
    let at = |hours: u32| NOW + Duration::from_secs(7_200) * hours;
    settle(&ledger, store, out, at(1)).await?;
    settle(&ledger, store, Answer::Refused("no".into()), at(2)).await?;
    settle(&ledger, store, accepted(), at(3)).await?;

    let mut conn = ledger.conn().await?;
    let history = async |conn: &mut wharf_store::Conn, id| -> Result<_> {
        let log = logs::get(conn, id).await?.context("a log")?;
        Ok(attempts::of_log(conn, &log).await?)
    };
    let told = history(&mut conn, fails_id).await?;
    let kinds: Vec<_> = told
        .iter()
        .map(|attempt| (attempt.number, attempt.at, attempt.outcome))
        .collect();
    assert_eq!(
        kinds,
        [
            (1, NOW, AnswerKind::Unavailable),
            (2, at(2), AnswerKind::Refused),
            (3, at(3), AnswerKind::Success),
        ]
    );
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        (
            told[0].error.clone(),
            told[0].plugin_digest.clone(),
            told[0].request_id.clone()
        ),
        (text("down"), text("d1"), text("import-1"))
    );
    assert_eq!(
        (told[1].plugin_digest.clone(), told[1].request_id.clone()),
        (text("d2"), text("run-1"))
    );
    let told = history(&mut conn, done_id).await?;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (
            told[0].number,
            told[0].at,
            told[0].outcome,
            told[0].request_id.clone()
        ),
        (1, NOW, AnswerKind::Success, text("import-2"))
    );

    assert_eq!(attempts::purge(&mut conn, at(3), 1).await?, 1);
    assert_eq!(attempts::purge(&mut conn, at(3), 10).await?, 1);
    let told = history(&mut conn, fails_id).await?;
    assert_eq!(told.iter().map(|one| one.number).collect::<Vec<_>>(), [3]);
    assert_eq!(attempts::purge(&mut conn, at(4), 10).await?, 1);
    let told = history(&mut conn, fails_id).await?;
    assert_eq!((told[0].number, told[0].at), (3, at(3)), "its log knows");
    Ok(())
}

async fn of_many_attempts_the_latest_are_kept(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let limited = judged(store, "limited", Answer::RateLimited(None), NOW);
    let id = limited.id;
    ledger.record(&[limited]).await?;
    for hours in 1..=24 {
        let at = NOW + Duration::from_secs(7_200) * hours;
        settle(&ledger, store, Answer::RateLimited(None), at).await?;
    }
    let rows = "select count(*) from sync_log_attempts";
    assert_eq!(ledger.number(rows).await?, MAX_ATTEMPTS);
    let mut conn = ledger.conn().await?;
    let log = logs::get(&mut conn, id).await?.context("a log")?;
    let told = attempts::of_log(&mut conn, &log).await?;
    let numbers: Vec<_> = told.iter().map(|one| one.number).collect();
    assert_eq!(numbers, (6..=25).collect::<Vec<_>>());
    Ok(())
}

async fn the_audit_names_the_plugin(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let id = |number: u32| match backend {
        Backend::Postgres => format!("'00000000-0000-7000-8000-{number:012}'"),
        Backend::Embedded => format!("x'0000000000007000800000000000{number:04}'"),
    };
    for (number, plugin, digest) in [(1, "old", "d1"), (2, "new", "d1"), (3, "other", "d2")] {
        let statement = format!(
            "insert into plugin_transitions (id, at, plugin, digest, to_state, reason, actor)
            values ({}, {}, '{plugin}', '{digest}', 'active', 'r', 'a')",
            id(number),
            ledger.sql.time(0)
        );
        ledger.sql.execute(&statement).await?;
    }
    let mut conn = ledger.conn().await?;
    let named = attempts::plugins(&mut conn, ["d1", "d3"]).await?;
    assert_eq!(named, [("d1".to_owned(), "new".to_owned())]);
    Ok(())
}

fn to_redrive(log: &NewLog, due_at: Time) -> ToRedrive {
    ToRedrive {
        id: log.id,
        store: log.store_id,
        due_at,
    }
}

async fn what_is_redriven_is_due_and_forgiven(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (one, token) = ledger.register("org", "one").await?;
    let (two, _) = ledger.register("org", "two").await?;
    let logs = [
        resting(two, "rests", NOW),
        refused(one, "refused", NOW),
        judged(one, "done", accepted(), NOW),
        judged(one, "limited", Answer::RateLimited(None), NOW),
    ];
    ledger.record(&logs).await?;
    let report = async || -> Result<_> {
        let report = stores::report(&mut ledger.conn().await?, token).await?;
        report.context("a report")
    };
    let before = report().await?;
    let later = NOW + Duration::from_secs(60);
    let all: Vec<_> = logs.iter().map(|log| to_redrive(log, later)).collect();
    let filter = LogFilter {
        unlimited: true,
        ..LogFilter::default()
    };
    let redrive = async |filter: &LogFilter| -> Result<BTreeSet<LogId>> {
        let mut tx = ledger.begin().await?;
        let redriven = logs::redrive(&mut tx, &all, filter, NOW + SECOND).await?;
        tx.commit().await?;
        Ok(redriven.into_iter().collect())
    };
    let rests = LogFilter {
        exhausted: Some(true),
        ..LogFilter::default()
    };
    assert_eq!(redrive(&rests).await?, BTreeSet::from([logs[0].id]));
    assert_eq!(redrive(&rests).await?, BTreeSet::new(), "it rests no more");
    let both = BTreeSet::from([logs[0].id, logs[1].id]);
    assert_eq!(redrive(&filter).await?, both);
    let mut conn = ledger.conn().await?;
    assert!(
        logs::due(&mut conn, two, NOW + SECOND, 10)
            .await?
            .is_empty()
    );
    for (store, receipt) in [(one, "refused"), (two, "rests")] {
        let due = logs::due(&mut conn, store, later, 10).await?;
        let due: Vec<_> = due
            .iter()
            .map(|log| (log.receipt.as_str(), log.status, log.refusals))
            .collect();
        assert_eq!(due, [(receipt, LogStatus::Failed, 0)]);
    }
    drop(conn);
    assert_eq!(
        report().await?,
        before,
        "the status stays until there is an answer"
    );
    Ok(())
}

/// A run that asked before somebody redrove what it asked about does not take the redrive back.
async fn a_redrive_meanwhile_is_kept(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let (store, _) = ledger.register("org", "shop").await?;
    let log = refused(store, "refused", NOW);
    ledger.record(std::slice::from_ref(&log)).await?;
    for hours in 1..9 {
        let at = NOW + Duration::from_secs(7_200) * hours;
        settle(&ledger, store, Answer::Refused("no".into()), at).await?;
    }
    let at = NOW + Duration::from_secs(7_200) * 9;
    let seen = logs::due(&mut ledger.conn().await?, store, at, 10).await?;
    assert_eq!(seen[0].refusals, MAX_REFUSALS - 1);
    let mut tx = ledger.begin().await?;
    let any = LogFilter::default();
    let redriven = logs::redrive(&mut tx, &[to_redrive(&log, at)], &any, at).await?;
    tx.commit().await?;
    assert_eq!(redriven, [log.id]);
    let no = || Answer::Refused("no".into());
    let late = settle_as_seen(&ledger, store, seen, no(), at + SECOND).await?;
    assert_eq!(late.exhausted, []);
    let due = logs::due(&mut ledger.conn().await?, store, at + SECOND, 10).await?;
    assert_eq!((due.len(), due[0].refusals), (1, 0));
    // The tenth refusal of one that nobody redrives.
    for hours in 10..19 {
        let at = NOW + Duration::from_secs(7_200) * hours;
        settle(&ledger, store, no(), at).await?;
    }
    let at = NOW + Duration::from_secs(7_200) * 19;
    let due = logs::due(&mut ledger.conn().await?, store, at, 10).await?;
    let tenth = settle_as_seen(&ledger, store, due, no(), at).await?;
    assert_eq!(tenth.exhausted, [log.id]);
    Ok(())
}

on_every_backend!(
    a_receipt_tells_of_its_attempts,
    of_many_attempts_the_latest_are_kept,
    the_audit_names_the_plugin,
    what_is_redriven_is_due_and_forgiven,
    a_redrive_meanwhile_is_kept,
);
