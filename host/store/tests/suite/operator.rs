//! What an operator looks at: dead letters and endpoints of all organizations.

use anyhow::Result;
use uuid::Uuid;
use wharf_domain::{DeliveryId, DeliveryState, EndpointId, Health, OrganizationId, before_ids_of};
use wharf_store::{
    endpoints::{self, Among, EndpointReceiver, HealthUpdate, MAX_DUE},
    letters::{self, Between, Letter, Of, Order},
};
use wharf_tests::{Backend, on_every_backend};

use crate::{
    callbacks::{COMPLETED, claim, emit, fan_out, settle, settled},
    endpoints::URL,
    fixture::{Fixture, NOW, SECOND, key, organization_id, random},
};

pub(crate) const EVERYTHING: Between = Between {
    after: Uuid::nil(),
    before: Uuid::max(),
};

/// An endpoint with so many dead letters.
async fn dead_endpoint(ledger: &Fixture, organization: &str, events: usize) -> Result<EndpointId> {
    let endpoint = ledger.endpoint(organization, COMPLETED, URL).await?;
    for _ in 0..events {
        emit(ledger, organization).await?;
    }
    fan_out(ledger, &[endpoint]).await?;
    let most = i64::try_from(events)?;
    let claimed = claim(ledger, &[(endpoint, most)], NOW).await?;
    let dead: Vec<_> = claimed
        .iter()
        .map(|one| settled(one, DeliveryState::Failed, None))
        .collect();
    settle(ledger, &dead).await?;
    Ok(endpoint)
}

async fn page(ledger: &Fixture, of: Of, between: Between, order: Order) -> Result<Vec<Letter>> {
    let mut conn = ledger.read().await?;
    Ok(letters::page(&mut conn, &of, between, order, 100).await?)
}

fn ids(letters: &[Letter]) -> Vec<DeliveryId> {
    letters.iter().map(|letter| letter.id).collect()
}

async fn dead_letters_of_all_organizations_are_found(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let one = dead_endpoint(&ledger, "one", 3).await?;
    let two = dead_endpoint(&ledger, "two", 2).await?;
    let oldest = page(&ledger, Of::All, EVERYTHING, Order::Oldest).await?;
    let mut backwards = ids(&page(&ledger, Of::All, EVERYTHING, Order::Newest).await?);
    assert!(oldest.len() == 5 && ids(&oldest).is_sorted());
    backwards.reverse();
    assert_eq!(backwards, ids(&oldest));
    for (of, name, number) in [
        (Of::Organization(organization_id("one")), "one", 3),
        (Of::Endpoint(two), "two", 2),
        (Of::Organization(organization_id("nobody")), "", 0),
    ] {
        for order in [Order::Oldest, Order::Newest] {
            let found = page(&ledger, of.clone(), EVERYTHING, order).await?;
            let theirs = found.iter().all(|one| one.organization_id.as_str() == name);
            assert!(found.len() == number && theirs, "{of:?}: {found:?}");
        }
    }
    // Both ends are left out, and a time has its place among ids.
    let between = Between {
        after: oldest[0].id.0,
        before: oldest[4].id.0,
    };
    let inner = page(&ledger, Of::All, between, Order::Oldest).await?;
    assert_eq!(ids(&inner), ids(&oldest[1..4]));
    for (after, number) in [(NOW, 5), (NOW + SECOND, 0)] {
        let between = Between {
            after: before_ids_of(after),
            ..EVERYTHING
        };
        let found = page(&ledger, Of::All, between, Order::Oldest).await?;
        assert_eq!(found.len(), number);
    }

    let first = page(&ledger, Of::Endpoint(one), EVERYTHING, Order::Oldest).await?;
    let letter = &first[0];
    assert_eq!(
        (letter.http_status, letter.attempts_made, letter.has_body),
        (Some(500), 1, true)
    );
    assert_eq!(
        (letter.event.as_str(), letter.last_error.as_deref()),
        (COMPLETED.as_str(), Some("no\u{fffd}"))
    );
    assert!(letter.endpoint_is_active && letter.created_at == NOW && letter.failed_at == NOW);
    let gone = "delete from callback_messages where outbox_id in
        (select outbox_id from callback_deliveries where organization_id = 'one')";
    ledger.sql.execute(gone).await?;
    ledger
        .sql
        .execute("update webhook_endpoints set is_active = (1 = 0) where organization_id = 'two'")
        .await?;
    let found = page(&ledger, Of::All, EVERYTHING, Order::Oldest).await?;
    for letter in found {
        let of_one = letter.organization_id.as_str() == "one";
        assert_eq!(
            (letter.has_body, letter.endpoint_is_active),
            (!of_one, of_one)
        );
    }
    Ok(())
}

async fn fail(ledger: &Fixture, id: EndpointId, disabled: Option<&str>) -> Result<()> {
    let mut tx = ledger.begin().await?;
    let locked = endpoints::lock_health(&mut tx, [id]).await?;
    let update = HealthUpdate {
        id,
        health: locked[0].health.after(false, 3, NOW),
        last_error: Some("10.0.0.7 refuses\0".into()),
        disabled: disabled.map(str::to_owned),
    };
    endpoints::save_health(&mut tx, &[update], NOW).await?;
    Ok(tx.commit().await?)
}

async fn endpoints_that_fail_are_found_with_their_figures(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let mut all = Vec::new();
    for name in ["well", "failing", "disabled", "org"] {
        all.push(ledger.endpoint(name, COMPLETED, URL).await?);
    }
    let [well, failing, disabled, org] = all[..] else {
        anyhow::bail!("four")
    };
    fail(&ledger, failing, None).await?;
    fail(&ledger, disabled, Some("410")).await?;
    let found = async |among: Among, after: EndpointId, most| {
        let mut conn = ledger.read().await?;
        let found = endpoints::overview(&mut conn, &among, after, most).await?;
        anyhow::Ok(found.iter().map(|one| one.id).collect::<Vec<_>>())
    };
    let nil = EndpointId(Uuid::nil());
    all.sort();
    assert_eq!(found(Among::All, nil, 9).await?, all);
    assert_eq!(found(Among::All, all[0], 2).await?, all[1..3]);
    assert_eq!(found(Among::Failing, nil, 9).await?, [failing]);
    assert_eq!(found(Among::Failing, failing, 9).await?, []);
    assert_eq!(found(Among::Disabled, nil, 9).await?, [disabled]);
    let of_org = Among::Organization(organization_id("org"));
    assert_eq!(found(of_org, nil, 9).await?, [org]);

    for _ in 0..3 {
        emit(&ledger, "org").await?;
    }
    fan_out(&ledger, &[org]).await?;
    let mut conn = ledger.conn().await?;
    let figures = endpoints::figures(&mut conn, [failing, org, nil], NOW).await?;
    let of = |id| figures.iter().find(|figures| figures.id == id).cloned();
    let (failing_one, org_one) = (of(failing).expect("there"), of(org).expect("there"));
    assert_eq!(
        (failing_one.last_error.as_deref(), failing_one.due),
        (Some("10.0.0.7 refuses\u{fffd}"), 0)
    );
    assert_eq!((org_one.last_error, org_one.due), (None, 3));
    assert!(figures.len() == 2 && MAX_DUE > 3);
    let before = endpoints::figures(&mut conn, [org], NOW + SECOND).await?;
    assert_eq!(before[0].due, 3);

    let receivers = endpoints::receivers(&mut conn, [org, disabled, nil]).await?;
    let expected = EndpointReceiver {
        id: disabled,
        organization_id: organization_id("disabled"),
        event: COMPLETED.as_str().into(),
        target_url: URL.into(),
    };
    assert!(receivers.len() == 2 && receivers[0] == expected);
    drop(conn);

    // A success, or its owner who enables it, ends what was said of it.
    let update = HealthUpdate {
        id: failing,
        health: Health::default(),
        last_error: None,
        disabled: None,
    };
    let mut tx = ledger.begin().await?;
    endpoints::save_health(&mut tx, &[update], NOW).await?;
    let organization = organization_id("disabled");
    let locked = endpoints::lock(&mut tx, &organization, disabled).await?;
    let mut enabled = locked.expect("there");
    enabled.enable();
    let nonces = [random(), random(), random()];
    let secrets = enabled.secrets(&key())?;
    endpoints::save(&mut tx, &key(), &enabled, Some(&secrets), nonces, NOW).await?;
    tx.commit().await?;
    let mut conn = ledger.read().await?;
    let figures = endpoints::figures(&mut conn, [failing, disabled, well], NOW).await?;
    assert!(figures.iter().all(|figures| figures.last_error.is_none()));
    Ok(())
}

async fn the_operators_endpoints_are_nobody_elses(backend: Backend) -> Result<()> {
    let ledger = Fixture::open(backend).await?;
    let theirs = ledger.endpoint("org", COMPLETED, URL).await?;
    let operator = OrganizationId::operator();
    let mut conn = ledger.read().await?;
    assert!(
        endpoints::get(&mut conn, &operator, theirs)
            .await?
            .is_none()
    );
    assert!(
        endpoints::list(&mut conn, &operator, None, 9)
            .await?
            .is_empty()
    );
    Ok(())
}

on_every_backend!(
    dead_letters_of_all_organizations_are_found,
    endpoints_that_fail_are_found_with_their_figures,
    the_operators_endpoints_are_nobody_elses,
);
