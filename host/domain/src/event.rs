//! Events: what a webhook tells, and where an event stands.

use crate::{DeliveryState, EventId, OrganizationId, StoreId, Time};

/// A kind of event that webhooks can be registered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A run of the sync engine over a store began.
    SyncStarted,
    /// It ended well or in part.
    SyncCompleted,
    /// It ended with the store's status failed.
    SyncFailed,
    /// An endpoint was disabled because it failed for too long, or asked for no more. For the operator.
    EndpointDisabled,
    /// A revision of a plugin may not serve any more. For the operator.
    PluginQuarantined,
    /// The revision that served before serves again. For the operator.
    PluginRolledBack,
}

impl EventKind {
    /// The kinds that organizations are told of, in the order of their names.
    pub const ALL: [Self; 3] = [Self::SyncCompleted, Self::SyncFailed, Self::SyncStarted];
    /// Those that the operator is told of.
    pub const OF_OPERATOR: [Self; 3] = [
        Self::EndpointDisabled,
        Self::PluginQuarantined,
        Self::PluginRolledBack,
    ];

    /// The name in the API, in payloads and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SyncStarted => "sync.started",
            Self::SyncCompleted => "sync.completed",
            Self::SyncFailed => "sync.failed",
            Self::EndpointDisabled => "endpoint.disabled",
            Self::PluginQuarantined => "plugin.quarantined",
            Self::PluginRolledBack => "plugin.rolled_back",
        }
    }

    /// Reads the name of a kind for organizations; `None` if it is none.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Reads the name of a kind for the operator; `None` if it is none.
    pub fn parse_of_operator(name: &str) -> Option<Self> {
        let mut kinds = Self::OF_OPERATOR.into_iter();
        kinds.find(|kind| kind.as_str() == name)
    }
}

/// Something that happened, on its way to the endpoints that want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The receivers' key for dropping duplicates.
    pub id: EventId,
    /// The kind of event. A text, not an [`EventKind`]: a row that somebody put in by plain SQL is delivered like any
    /// other.
    pub kind: String,
    /// The time when it happened.
    pub at: Time,
    /// The organization that the event belongs to.
    pub organization_id: OrganizationId,
    /// The store that it is about.
    pub store_id: StoreId,
    /// A JSON object, as text.
    pub data: String,
}

/// Returns where an event stands, from its own due time (none once it is fanned out) and its deliveries.
///
/// It is pending while anything is left to do, failed if a receiver will never get it, and success otherwise: also
/// where nobody wanted it. `wharf-store` states the same rule in SQL (`event_state!`); a test there holds the two
/// together.
pub fn event_state(
    due_at: Option<Time>,
    deliveries: impl IntoIterator<Item = DeliveryState>,
) -> DeliveryState {
    let start = match due_at {
        Some(_) => DeliveryState::Pending,
        None => DeliveryState::Success,
    };
    let worse = |state, delivery| match (state, delivery) {
        (DeliveryState::Pending, _) | (_, DeliveryState::Pending) => DeliveryState::Pending,
        (DeliveryState::Failed, _) | (_, DeliveryState::Failed) => DeliveryState::Failed,
        _ => DeliveryState::Success,
    };
    deliveries.into_iter().fold(start, worse)
}

/// The sums of a run of the sync engine, as `sync.completed` and `sync.failed` report them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Logs asked about.
    pub processed: i64,
    /// Logs that became orders.
    pub success: i64,
    /// Logs that were refused or could not be asked.
    pub failed: i64,
    /// Logs that the marketplace put off.
    pub rate_limited: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeliveryState::{Failed, Pending, Success};

    #[test]
    fn organizations_and_the_operator_have_kinds_of_their_own() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::parse(kind.as_str()), Some(kind));
            assert_eq!(EventKind::parse_of_operator(kind.as_str()), None);
        }
        for kind in EventKind::OF_OPERATOR {
            assert_eq!(EventKind::parse_of_operator(kind.as_str()), Some(kind));
            assert_eq!(EventKind::parse(kind.as_str()), None);
        }
        assert!(EventKind::OF_OPERATOR.map(EventKind::as_str).is_sorted());
    }

    #[test]
    fn an_event_is_pending_then_failed_then_success() {
        let now = Some(Time::from_micros(1));
        for (due_at, deliveries, state) in [
            (now, &[][..], Pending),
            (now, &[Success], Pending),
            (now, &[Failed], Pending),
            (None, &[], Success),
            (None, &[Success, Success], Success),
            (None, &[Success, Failed], Failed),
            (None, &[Failed, Success], Failed),
            (None, &[Failed, Pending], Pending),
            (None, &[Pending, Success], Pending),
        ] {
            let found = event_state(due_at, deliveries.iter().copied());
            assert_eq!(found, state, "{due_at:?} {deliveries:?}");
        }
    }
}
