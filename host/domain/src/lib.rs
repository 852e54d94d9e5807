//! The rules of Wharf without any machinery: ids, time, money, the status rule, backoff, the settling of deliveries.
//!
//! Promise: everything here is pure. Time, ids and randomness come in as parameters, so every rule can be tested
//! with a table or a property. Left out on purpose: I/O, tokio, SQL and wire formats.

mod address;
mod api_key;
mod asymmetric;
mod backoff;
mod budget;
mod clock;
mod delivery;
mod endpoint;
mod event;
mod hold;
mod id;
mod log;
mod money;
mod request_id;
// The SDK's file: the two must not read different grammars, and neither may depend on the other.
#[path = "../../../plugins/sdk/src/rfc3339.rs"]
mod rfc3339;
// One text for the host and for plugins. It lives there because a copy of the SDK must be whole.
#[path = "../../../plugins/sdk/src/retry_after.rs"]
pub mod retry_after;
mod scope;
mod shares;
mod signature;
mod store;
mod text;
mod time;

pub use address::{AddressPolicy, FORBIDDEN_NETWORKS, is_public};
pub use api_key::{KeyKind, KeyText, Reach};
pub use asymmetric::SigningRoot;
pub use backoff::Backoff;
pub use budget::Budget;
pub use clock::{Clock, FixedClock, Step, StepWatch, SystemClock};
pub use delivery::{DeliveryState, NotSent, RetrySchedule, SendOutcome, Settled, settle};
pub use endpoint::{BatchOutcome, DisableReason, Health, RateLimit, update_health};
pub use event::{Event, EventKind, SyncCounts, event_state};
pub use hold::{Held, HoldSide, HoldTarget};
pub use id::{
    ApiKeyId, DeliveryId, EndpointId, EventId, LogId, RunId, StoreId, SyncToken, before_ids_of,
    uuid_v4, uuid_v7,
};
pub use log::{
    Answer, AnswerKind, Before, ImportResult, LogState, LogStatus, MAX_PLUGIN_FAULTS, MAX_REFUSALS,
    Order, import_result, next_state,
};
pub use money::{Amount, Currency};
pub use request_id::RequestId;
pub use scope::{KeyScope, KeyScopes};
pub use shares::{Parties, Shares};
pub use signature::{EndpointSecret, Secrets, TooManyOverlaps, seed_signature, standard_signature};
pub use store::{RECENT_LOGS, SyncStatus, sync_status};
pub use text::{
    AccessToken, ExternalStoreId, Invalid, MarketplaceName, OrganizationId, Receipt, ShaperName,
    StoreName, TargetUrl, bounded_text, is_plugin_name,
};
pub use time::Time;
