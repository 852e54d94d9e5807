//! The operator's own events: an endpoint was disabled, a revision of a plugin was quarantined or rolled back.
//!
//! They are rows of the outbox like all events, of an organization that no client can name, and go the same way: shaped,
//! signed, retried, given up. Each is written in the transaction of what it tells, so a crash loses neither or both.
//!
//! How many there can be: an endpoint is disabled once until somebody enables it, and its owner may do that in a loop;
//! so one organization makes at most [`MAX_DISABLED_PER_MINUTE`] events a minute, and what goes beyond is in the log and
//! in `GET /admin/webhooks` alone. A revision is quarantined once, in each process, until an operator releases it. An
//! endpoint of the operator's that is disabled is told to his others: each such event has one endpoint less to go to, so
//! there is no circle.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;
use wharf_domain::{
    Budget, EndpointId, Event, EventId, EventKind, OrganizationId, StoreId, TargetUrl, Time,
};
use wharf_engine::{ROLLED_BACK, RevisionState};
use wharf_store::{
    Conn, StoreError, Tx, budgets,
    endpoints::{self, EndpointReceiver, HealthUpdate},
    outbox,
    transitions::PluginTransition,
};

use crate::entropy::new_id;

/// Events that the endpoints of one organization make: more than an outage of a usual one does.
const MAX_DISABLED_PER_MINUTE: u32 = 60;
/// The name of that budget in the database.
const BUDGET: &str = "endpoint.disabled";
/// The actor of the engine's own steps.
const ENGINE: &str = "engine";

/// Writes an event for each endpoint that these updates disable. Call it in the transaction that writes them. Returns how
/// many it wrote.
pub(crate) async fn tell_of_disabled(
    tx: &mut Tx,
    updates: &[HealthUpdate],
    now: Time,
) -> Result<usize, StoreError> {
    let disabled = updates.iter().filter(|update| update.disabled.is_some());
    let disabled: BTreeMap<EndpointId, &HealthUpdate> =
        disabled.map(|update| (update.id, update)).collect();
    if disabled.is_empty() {
        return Ok(0);
    }
    // Sorted by organization, so that two workers lock budgets in one order.
    let receivers = endpoints::receivers(tx, disabled.keys().copied()).await?;
    let mut told = 0;
    for receiver in receivers {
        let Some(update) = disabled.get(&receiver.id) else {
            continue;
        };
        if is_within_budget(tx, &receiver.organization_id, now).await? {
            let data = endpoint_disabled(&receiver, update);
            let event = event(EventKind::EndpointDisabled, &data, now, new_id(now));
            outbox::emit(tx, &event, outbox::Cause::default()).await?;
            told += 1;
        }
    }
    Ok(told)
}

async fn is_within_budget(
    conn: &mut Conn,
    organization: &OrganizationId,
    now: Time,
) -> Result<bool, StoreError> {
    let spent_until = budgets::lock(conn, organization, BUDGET, now).await?;
    let Ok(until) = Budget::per_minute(MAX_DISABLED_PER_MINUTE).spend(spent_until, now) else {
        return Ok(false);
    };
    budgets::spend(conn, organization, BUDGET, until).await?;
    Ok(true)
}

fn endpoint_disabled(receiver: &EndpointReceiver, update: &HealthUpdate) -> Value {
    let organization = &receiver.organization_id;
    // Without path and query, which are often a secret of the receiver.
    let url = TargetUrl::parse(&receiver.target_url).ok();
    let host = url.as_ref().and_then(|url| url.url().host_str());
    json!({
        "organizationId": (!organization.is_operator()).then(|| organization.as_str()),
        "webhookId": receiver.id.to_string(),
        "event": receiver.event,
        "receiver": host,
        "reason": update.disabled,
        "lastError": update.last_error,
        "consecutiveFailures": update.health.failures,
        "failingSince": update.health.failing_since.map(|since| since.to_string()),
    })
}

/// The events of steps that plugins' revisions took. An event has its step's id: one step makes one.
pub(crate) fn plugin_events<'s>(
    steps: impl Iterator<Item = &'s PluginTransition>,
) -> impl Iterator<Item = Event> {
    let quarantined = RevisionState::Quarantined.to_string();
    let (retained, active) = (
        RevisionState::Retained.to_string(),
        RevisionState::Active.to_string(),
    );
    steps.filter_map(move |step| {
        let from = step.from.as_deref();
        let kind = if step.to == quarantined {
            EventKind::PluginQuarantined
        } else if from == Some(retained.as_str()) && step.to == active && step.reason == ROLLED_BACK
        {
            EventKind::PluginRolledBack
        } else {
            return None;
        };
        let data = json!({
            "plugin": step.plugin,
            "digest": step.digest,
            "reason": step.reason,
            "actor": step.actor,
            "automatic": step.actor == ENGINE,
        });
        Some(event(kind, &data, step.at, step.id))
    })
}

fn event(kind: EventKind, data: &Value, at: Time, id: Uuid) -> Event {
    Event {
        id: EventId(id),
        kind: kind.as_str().into(),
        at,
        organization_id: OrganizationId::operator(),
        // It is about no store, but receivers expect the field.
        store_id: StoreId(Uuid::nil()),
        data: data.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(from: Option<&str>, to: &str, reason: &str, actor: &str) -> PluginTransition {
        PluginTransition {
            id: Uuid::from_u128(7),
            at: Time::from_micros(5),
            plugin: "etsy".into(),
            digest: Some("ab".into()),
            from: from.map(str::to_owned),
            to: to.into(),
            reason: reason.into(),
            actor: actor.into(),
        }
    }

    #[test]
    fn quarantines_and_roll_backs_are_events_and_nothing_else_is() {
        let steps = [
            step(Some("active"), "quarantined", "it traps", "engine"),
            step(Some("retained"), "active", ROLLED_BACK, "engine"),
            step(Some("retained"), "quarantined", "a bug", "admin ada"),
            step(Some("retained"), "active", "activated", "admin"),
            step(None, "staged", "its bytes are here", "folder"),
            step(Some("quarantined"), "retained", "released", "admin"),
            step(Some("conformant"), "active", "it serves", "folder"),
        ];
        let events: Vec<Event> = plugin_events(steps.iter()).collect();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        let expected = [
            "plugin.quarantined",
            "plugin.rolled_back",
            "plugin.quarantined",
        ];
        assert_eq!(kinds, expected);
        assert!(events[0].organization_id.is_operator() && events[0].id.0 == Uuid::from_u128(7));
        let data: Value = serde_json::from_str(&events[0].data).expect("JSON");
        let expected = json!({"plugin": "etsy", "digest": "ab", "reason": "it traps", "actor": "engine",
            "automatic": true});
        assert_eq!(data, expected);
    }

    #[test]
    fn a_receivers_path_is_told_to_nobody() {
        let receiver = EndpointReceiver {
            id: EndpointId(Uuid::from_u128(1)),
            organization_id: OrganizationId::operator(),
            event: "endpoint.disabled".into(),
            target_url: "https://hooks.slack.test/services/T0/SECRET?key=SECRET".into(),
        };
        let update = HealthUpdate {
            id: receiver.id,
            health: wharf_domain::Health::default(),
            last_error: None,
            disabled: Some("the receiver answered 410 Gone".into()),
        };
        let data = endpoint_disabled(&receiver, &update);
        assert_eq!(data["receiver"], "hooks.slack.test");
        assert_eq!(data["organizationId"], Value::Null);
        assert!(!data.to_string().contains("SECRET"), "{data}");
    }
}
