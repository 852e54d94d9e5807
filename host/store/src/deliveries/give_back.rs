//! Giving back: deliveries that were claimed and not sent.

use wharf_domain::Time;

use super::Fence;
use crate::{Conn, StoreError, dialect::statements, rows::Rows};

statements! {
    // A settled delivery keeps its fence, but its `due_at` is the next attempt's by then.
    // A resend that was asked for meanwhile is what the next claim does.
    GIVE_BACK = ["update callback_deliveries set due_at = r.due_at, claimed_by = null, resend_requested = false,
            schedule_base = case when resend_requested then attempt else schedule_base end
        from" rows(r, id uuid, fence int, due_at time)
        "where callback_deliveries.id = r.id and callback_deliveries.fence = r.fence
            and callback_deliveries.claimed_by is not null"];
}

/// Gives deliveries back, each to be claimed from its time on, where the fence still holds. Their attempts stay as they
/// were.
pub async fn give_back(conn: &mut Conn, given: &[(Fence, Time)]) -> Result<(), StoreError> {
    let mut rows = Rows::new(conn);
    for (fence, due_at) in given {
        rows.push()
            .uuid("id", fence.id.0)
            .int("fence", fence.number)
            .time("due_at", *due_at);
    }
    conn.query(GIVE_BACK).rows(&rows).run().await.map(drop)
}
