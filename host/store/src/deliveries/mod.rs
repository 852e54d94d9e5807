//! Deliveries: one event on its way to one endpoint. Claimed in fair shares between endpoints, sent with nothing held,
//! settled behind the fence.

mod claim;
mod give_back;
mod queue;
mod settle;

use wharf_domain::{DeliveryId, Time};

use crate::{
    Conn, StoreError,
    dialect::{Sql, statements},
    rows::Rows,
};

pub use claim::{Claimed, claim};
pub use give_back::give_back;
pub use queue::{EndpointQueue, count_due, queues};
pub use settle::{Attempt, SettledDelivery, settle};
pub(crate) use settle::{aggregate, event_rows, lock_events};

statements! {
    // Not once it is settled: then `due_at` is its next attempt and no lease.
    RENEW = ["update callback_deliveries set due_at = r.due_at from" rows(r, id uuid, fence int, due_at time)
        "where callback_deliveries.id = r.id and callback_deliveries.fence = r.fence
            and callback_deliveries.claimed_by is not null returning callback_deliveries.id"];
    TAKEN_OVER = ["select d.id from" rows(r, id uuid, fence int) "join callback_deliveries d on d.id = r.id
        where d.fence > r.fence"];
}

/// Every statement about deliveries, by module.
pub(crate) const MODULES: [&[(&str, Sql)]; 5] =
    [ALL, queue::ALL, claim::ALL, settle::ALL, give_back::ALL];

/// The right to send one delivery, until the lease ends or somebody claims it after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The delivery.
    pub id: DeliveryId,
    /// The number of the claim.
    pub number: i64,
}

/// Returns the deliveries of these claims that another claim has taken over. Settled ones are not among them.
pub async fn taken_over(conn: &mut Conn, fences: &[Fence]) -> Result<Vec<DeliveryId>, StoreError> {
    let mut rows = Rows::new(conn);
    for fence in fences {
        rows.push()
            .uuid("id", fence.id.0)
            .int("fence", fence.number);
    }
    let taken = conn.query(TAKEN_OVER).rows(&rows).ids().await?;
    Ok(taken.into_iter().map(DeliveryId).collect())
}

/// Prolongs leases and returns the deliveries whose fence still holds.
pub async fn renew(
    conn: &mut Conn,
    fences: &[Fence],
    until: Time,
) -> Result<Vec<DeliveryId>, StoreError> {
    let mut rows = Rows::new(conn);
    for fence in fences {
        rows.push()
            .uuid("id", fence.id.0)
            .int("fence", fence.number)
            .time("due_at", until);
    }
    let held = conn.query(RENEW).rows(&rows).ids().await?;
    Ok(held.into_iter().map(DeliveryId).collect())
}
