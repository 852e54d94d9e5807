use crate::{EventId, OrganizationId, StoreId, Time};

/// What a webhook can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A run of the sync engine over a store began.
    SyncStarted,
    /// It ended well or in part.
    SyncCompleted,
    /// It ended with the store's status failed.
    SyncFailed,
}

impl EventKind {
    /// All kinds, in the order of their names.
    pub const ALL: [Self; 3] = [Self::SyncCompleted, Self::SyncFailed, Self::SyncStarted];

    /// The name in the API, in payloads and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SyncStarted => "sync.started",
            Self::SyncCompleted => "sync.completed",
            Self::SyncFailed => "sync.failed",
        }
    }

    /// Reads the name; `None` if it is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Something that happened, on its way to the endpoints that want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The receivers' key for dropping duplicates.
    pub id: EventId,
    /// What happened. A text, not an [`EventKind`]: a row that somebody put in by plain SQL is delivered like any other.
    pub kind: String,
    /// When it happened.
    pub at: Time,
    /// Whose event it is.
    pub organization_id: OrganizationId,
    /// Which store it is about.
    pub store_id: StoreId,
    /// A JSON object, as text.
    pub data: String,
}

/// What a run of the sync engine did, as `sync.completed` and `sync.failed` report it.
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
