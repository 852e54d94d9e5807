//! A second chance for deliveries: dead letters, and events that an endpoint missed.

use anyhow::{Context, Result};
use wharf_domain::{DeliveryId, DeliveryState, EventKind};
use wharf_store::{
    deliveries::{self, SettledDelivery},
    history::{self, Scope},
    letters::{self, Of, Order},
    outbox::{self, Extra, NewDelivery},
    resend::{self, EventCursor, Missed},
};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    callbacks::{COMPLETED, claim, emit, fan_out, message, settle, settled},
    endpoints::{URL, busy_endpoint},
    fixture::{Fixture, NOW, SECOND, organization_id, random_v7},
    operator::EVERYTHING,
};

async fn dead_letters_are_listed_in_pages_and_redriven(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let id = busy_endpoint(&ledger, 3).await?;
    let claimed = claim(&ledger, &[(id, 3)], NOW).await?;
    let dead: Vec<_> = claimed
        .iter()
        .map(|one| settled(one, DeliveryState::Failed, None))
        .collect();
    settle(&ledger, &dead).await?;
    let org = organization_id("org");
    let mut conn = ledger.read().await?;
    let first = history::page(&mut conn, &org, Scope::DeadLetters, None, 2).await?;
    let rest = history::page(&mut conn, &org, Scope::DeadLetters, Some(first[1].id), 2).await?;
    let ids: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|delivery| delivery.id)
        .collect();
    assert!(
        ids.len() == 3 && ids.is_sorted_by(|a, b| a > b),
        "newest first: {ids:?}"
    );
    let attempt = &rest[0].attempts[0];
    assert_eq!(
        (attempt.number, attempt.http_status, attempt.latency_us),
        (1, Some(500), 5_000)
    );
    assert_eq!(attempt.response.as_deref(), Some("a\u{fffd}b"));
    let of_endpoint = Scope::Endpoint(id, Some(DeliveryState::Success));
    assert!(
        history::page(&mut conn, &org, of_endpoint, None, 9)
            .await?
            .is_empty()
    );
    let of_event = Scope::Event(claimed[0].event_id);
    assert_eq!(
        history::page(&mut conn, &org, of_event, None, 9)
            .await?
            .len(),
        1
    );
    assert!(
        history::page(&mut conn, &organization_id("x"), of_event, None, 9)
            .await?
            .is_empty()
    );

    let letters = letters::page(&mut conn, &Of::Endpoint(id), EVERYTHING, Order::Oldest, 2).await?;
    let due: Vec<_> = letters
        .iter()
        .map(|letter| (letter.id, letter.event_id, NOW + SECOND))
        .collect();
    let mut tx = ledger.begin().await?;
    assert_eq!(resend::revive(&mut tx, &due, NOW).await?, 2);
    assert_eq!(
        resend::revive(&mut tx, &due, NOW).await?,
        0,
        "no longer dead"
    );
    tx.commit().await?;
    let pending = "select count(*) from callback_outbox where status = 'pending' and next_retry_at is not null";
    assert_eq!(ledger.number(pending).await?, 2);
    assert!(
        claim(&ledger, &[(id, 3)], NOW).await?.is_empty(),
        "not due yet"
    );
    let again = claim(&ledger, &[(id, 3)], NOW + SECOND).await?;
    assert_eq!(
        (
            again.len(),
            again[0].attempts_before,
            again[0].schedule_base
        ),
        (2, 1, 1)
    );
    assert_eq!(again[0].body, claimed[0].body);

    let mut tx = ledger.begin().await?;
    let held = &again[0];
    assert!(resend::resend(&mut tx, &org, held.fence.id, held.event_id, NOW).await?);
    let last = &rest[0];
    let other = claimed
        .iter()
        .find(|one| !again.iter().any(|a| a.fence.id == one.fence.id))
        .context("the third")?;
    assert!(resend::resend(&mut tx, &org, other.fence.id, other.event_id, NOW).await?);
    tx.commit().await?;
    assert!(history::get(&mut conn, &org, last.id).await?.is_some());
    Ok(())
}

/// Whatever comes of the attempt under way: given up, put off, accepted, or not made at all.
async fn a_resend_during_an_attempt_is_remembered(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let id = busy_endpoint(&ledger, 1).await?;
    let org = organization_id("org");
    for (round, end) in (1..).zip([
        Some(DeliveryState::Failed),
        Some(DeliveryState::Pending),
        Some(DeliveryState::Success),
        None,
    ]) {
        let held = claim(&ledger, &[(id, 1)], NOW).await?.remove(0);
        let mut tx = ledger.begin().await?;
        assert!(resend::resend(&mut tx, &org, held.fence.id, held.event_id, NOW).await?);
        tx.commit().await?;
        assert!(
            claim(&ledger, &[(id, 1)], NOW).await?.is_empty(),
            "it is still being sent"
        );
        match end {
            Some(state) => {
                let later = (state == DeliveryState::Pending).then_some(NOW + SECOND);
                settle(&ledger, &[settled(&held, state, later)]).await?;
                let pending = "select count(*) from callback_outbox where status = 'pending'";
                assert_eq!(ledger.number(pending).await?, 1, "{end:?}");
            }
            None => {
                let mut conn = ledger.conn().await?;
                deliveries::give_back(&mut conn, &[(held.fence, NOW)]).await?;
            }
        }
        let again = claim(&ledger, &[(id, 1)], NOW).await?.remove(0);
        let made = round.min(3);
        assert_eq!(
            (again.attempts_before, again.schedule_base),
            (made, made),
            "{end:?}: the whole schedule before it"
        );
        // Asked for once, it is sent again once.
        let over = settled(&again, DeliveryState::Pending, Some(NOW + SECOND));
        settle(
            &ledger,
            &[SettledDelivery {
                attempt_number: made,
                ..over
            }],
        )
        .await?;
        assert!(claim(&ledger, &[(id, 1)], NOW).await?.is_empty(), "{end:?}");
        let mut tx = ledger.begin().await?;
        assert!(resend::resend(&mut tx, &org, held.fence.id, held.event_id, NOW).await?);
        tx.commit().await?;
    }
    Ok(())
}

async fn a_missed_event_is_delivered_late_and_once(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let event = emit(&ledger, "org").await?;
    fan_out(&ledger, &[]).await?;
    let late = ledger.endpoint("org", COMPLETED, URL).await?;
    ledger.endpoint("org", EventKind::SyncStarted, URL).await?;
    let org = organization_id("org");
    let which = Missed {
        organization: &org,
        event: COMPLETED.as_str(),
        endpoint: late,
    };
    let mut conn = ledger.read().await?;
    assert_eq!(resend::count_missed(&mut conn, which, NOW).await?, 1);
    assert_eq!(
        resend::count_missed(&mut conn, which, NOW + SECOND).await?,
        0
    );
    let missed = resend::missed(&mut conn, which, EventCursor::at(NOW), 9).await?;
    assert_eq!((missed.len(), missed[0].id), (1, event));
    assert!(
        resend::missed(&mut conn, which, EventCursor::behind(&missed[0]), 9)
            .await?
            .is_empty()
    );
    let extra = || Extra {
        event_id: event,
        organization_id: org.clone(),
        message: Some(message()),
        delivery: NewDelivery {
            id: DeliveryId(random_v7()),
            endpoint_id: late,
            shaper: "standard".into(),
            dead: None,
        },
        due_at: NOW,
    };
    let mut tx = ledger.begin().await?;
    outbox::deliver(&mut tx, &[extra()], NOW).await?;
    outbox::deliver(&mut tx, &[extra()], NOW).await?;
    tx.commit().await?;
    assert_eq!(
        ledger
            .number("select count(*) from callback_outbox where status = 'pending'")
            .await?,
        1
    );
    assert_eq!(
        claim(&ledger, &[(late, 9)], NOW).await?.len(),
        1,
        "one delivery for one endpoint"
    );
    Ok(())
}

on_every_backend!(
    dead_letters_are_listed_in_pages_and_redriven,
    a_resend_during_an_attempt_is_remembered,
    a_missed_event_is_delivered_late_and_once,
);
