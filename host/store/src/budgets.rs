//! The use that organizations have made of their budgets: one row for each organization and operation, the same for
//! all processes.

use wharf_domain::{OrganizationId, Time};

use crate::{Conn, StoreError, dialect::statements, values::At};

statements! {
    // `do update` of nothing: `do nothing` would neither lock the row that is there nor return it.
    /// Makes the row if there is none, and holds it until the transaction ends.
    LOCK = ["insert into organization_limits (organization_id, operation, spent_until) values ($1, $2, $3)
        on conflict (organization_id, operation) do update set operation = organization_limits.operation
        returning spent_until"];
    SPEND = ["update organization_limits set spent_until = $3 where organization_id = $1 and operation = $2"];
    PURGE = ["with picked as materialized (select organization_id, operation from organization_limits
            where spent_until < $1 order by spent_until limit $2" skip_locked ")
        delete from organization_limits where (organization_id, operation) in (select organization_id, operation from picked)"];
}

/// Returns until when the organization has used its budget for an operation: now or earlier, if it has not. The row is
/// held until the transaction ends.
pub async fn lock(
    conn: &mut Conn,
    organization: &OrganizationId,
    operation: &str,
    now: Time,
) -> Result<Time, StoreError> {
    lock_named(conn, organization.as_str(), operation, now).await
}

/// The same by name; the empty one is the operator.
pub(crate) async fn lock_named(
    conn: &mut Conn,
    organization: &str,
    operation: &str,
    now: Time,
) -> Result<Time, StoreError> {
    #[derive(FromRow)]
    struct Row {
        spent_until: At,
    }
    let query = conn
        .query(LOCK)
        .bind(organization)
        .bind(operation)
        .time(now);
    Ok(query.one::<Row>().await?.spent_until.0)
}

/// Sets until when the organization has used its budget.
pub async fn spend(
    conn: &mut Conn,
    organization: &OrganizationId,
    operation: &str,
    until: Time,
) -> Result<(), StoreError> {
    let query = conn.query(SPEND).bind(organization.as_str());
    query.bind(operation).time(until).run().await.map(drop)
}

/// Removes up to `max` rows that say nothing any more: budgets that are whole again. Returns how many.
pub async fn purge(conn: &mut Conn, now: Time, max: i64) -> Result<u64, StoreError> {
    conn.query(PURGE).time(now).bind(max).run().await
}
