//! SQL that several statements share, each text once. `statements!` takes these by name.

/// The columns of an endpoint, as `endpoints::Row` reads them.
macro_rules! endpoint_columns {
    () => {
        "id, organization_id, event, target_url, shaper, is_active, disabled_reason, secret, retired_secrets,
            signing_root, identity, signs_v1a, rate_per_minute, generation, failures, failing_since, pauses, paused_until, created_at, updated_at"
    };
}

/// The columns of a seller's store, as `stores::StoreRow` reads them, of the table of this name.
macro_rules! store_columns {
    ($table:literal) => {
        concat!(
            $table,
            ".id, ",
            $table,
            ".identity, ",
            $table,
            ".organization_id, ",
            $table,
            ".marketplace, ",
            $table,
            ".external_store_id, ",
            $table,
            ".access_token, ",
            $table,
            ".currency, ",
            $table,
            ".credentials_changed_at"
        )
    };
}

/// True of the store, as the table of this name has it, of a token whose digest is `$digest`. Of one that stands in the clear
/// `$token` is the token: a digest that was read in a copy of the database finds nothing.
macro_rules! has_token {
    ($table:literal, $digest:literal, $token:literal) => {
        concat!(
            $table,
            ".sync_token in (",
            $digest,
            ", ",
            $token,
            ") and (",
            $table,
            ".sync_token = ",
            $digest,
            ") = (",
            $table,
            ".sync_token_sealed is not null)"
        )
    };
}

/// True of a store, as the table of this name has it, that somebody holds.
macro_rules! is_held {
    ($table:literal) => {
        concat!(
            "(exists (select 1 from holds h where h.store_id = ",
            $table,
            ".id) or exists (select 1 from holds h where h.what = 'organization' and h.name = ",
            $table,
            ".organization_id) or exists (select 1 from holds h where h.what = 'marketplace' and h.name = ",
            $table,
            ".marketplace))"
        )
    };
}

/// The columns of a hold, as `holds::Row` reads them.
macro_rules! hold_columns {
    () => {
        "select id, what, name, side, reason, placed_by, since from holds"
    };
}

/// The stores `s` of a list, as `stores::list::Row` reads them, up to the table.
macro_rules! listed_columns {
    () => {
        concat!(
            "select s.id, s.organization_id, s.marketplace, s.external_store_id, s.store_name, s.currency, s.sync_status,
            s.last_sync_at, s.imported_orders, s.rate_limited_count, s.created_at, s.updated_at, ",
            $crate::pieces::is_held!("s"),
            " as is_held from"
        )
    };
}

/// The columns that a list needs of each store that it looks at: not all of them, for a sealed token may have 8 KiB.
macro_rules! listed_inner {
    () => {
        "id, organization_id, marketplace, external_store_id, store_name, currency, sync_status, last_sync_at,
            imported_orders, rate_limited_count, created_at, updated_at, removed_at"
    };
}

/// The filter of a list of stores `s`.
macro_rules! listed_filter {
    () => {
        concat!(
            "where s.removed_at is null and (s.organization_id = $4 or $4 = '') and (s.marketplace = $5 or $5 = '')
            and (s.external_store_id = $6 or $6 = '') and (s.sync_status = $7 or $7 = '')
            and ($8 < 0 or ",
            $crate::pieces::is_held!("s"),
            " = ($8 = 1)) order by s.id desc limit $3"
        )
    };
}

/// The log of the store that has the order `r.order_id` already, under another receipt; null if none has.
macro_rules! original {
    ($store:literal) => {
        concat!(
            "(select f.id from sync_logs f where f.store_id = ",
            $store,
            " and f.order_id = r.order_id
                and f.duplicate_of is null order by f.created_at, f.id limit 1)"
        )
    };
}

/// The columns of logs `l`.
macro_rules! log_columns {
    () => {
        "l.id, l.store_id, l.receipt, l.status, l.attempt, l.due_at, l.exhausted, l.order_id, l.amount, l.currency,
            l.imported_at, l.last_error, l.plugin_digest, l.plugin_faults, l.refusals, l.request_id, l.sync_request_id,
            l.duplicate_of, l.created_at, l.updated_at"
    };
}

/// Logs `l`, from what follows, as `logs::row::Row` reads them.
macro_rules! logs {
    () => {
        concat!(
            "select ",
            $crate::pieces::log_columns!(),
            ", (select s.organization_id from stores s where s.id = l.store_id) as organization_id,
            (select s.marketplace from stores s where s.id = l.store_id) as marketplace from"
        )
    };
}

/// What a log of this name must be: of a status, resting or not, with an error, and not rate-limited. Empty texts, -1 and 0
/// ask for nothing.
macro_rules! log_is {
    ($log:literal, $status:literal, $exhausted:literal, $error:literal, $unlimited:literal) => {
        concat!(
            "(",
            $status,
            " = '' or ",
            $log,
            ".status = ",
            $status,
            ") and (",
            $exhausted,
            " = -1 or ",
            $log,
            ".exhausted = (",
            $exhausted,
            " = 1)) and (",
            $error,
            " = '' or ",
            $log,
            ".last_error = ",
            $error,
            ") and (",
            $unlimited,
            " = 0 or ",
            $log,
            ".status <> 'rate_limited')"
        )
    };
}

/// The filter of logs `l`, in parameters $3 to $10.
macro_rules! filtered_logs {
    () => {
        concat!(
            $crate::pieces::log_is!("l", "$3", "$4", "$5", "$6"),
            " and l.created_at >= $7 and l.created_at < $8
            and ($9 = '' or (select s.organization_id from stores s where s.id = l.store_id) = $9)
            and ($10 = '' or (select s.marketplace from stores s where s.id = l.store_id) = $10)"
        )
    };
}

/// Deliveries `d` with their events `o`, as `history::Row` reads them.
macro_rules! deliveries_with_events {
    () => {
        "select d.id, d.outbox_id, d.endpoint_id, o.event, d.state, d.attempt, d.due_at, d.last_error, d.created_at,
            d.updated_at, o.request_id
        from callback_deliveries d join callback_outbox o on o.id = d.outbox_id"
    };
}

/// The dead letters `d` between `$1` and `$2` in the order of their ids, `$3` of them at most; of all, or those that a
/// condition on `$4` names.
macro_rules! picked_letters {
    ($of:literal, $order:literal) => {
        concat!(
            "with picked as materialized (select d.id, d.outbox_id, d.endpoint_id, d.organization_id, d.shaper, d.attempt,
                d.last_error, d.created_at, d.updated_at
            from callback_deliveries d where d.state = 'failed' and d.id > $1 and d.id < $2",
            $of,
            " order by d.id ",
            $order,
            " limit $3)"
        )
    };
}

/// The picked dead letters, as `letters::Row` reads them.
macro_rules! letters {
    () => {
        "select picked.id, picked.outbox_id, picked.endpoint_id, picked.organization_id, picked.attempt, picked.last_error,
            picked.created_at, picked.updated_at, o.event, e.is_active, a.http_status,
            exists (select 1 from callback_messages m
                where m.outbox_id = picked.outbox_id and m.shaper = picked.shaper) as has_body
        from picked join callback_outbox o on o.id = picked.outbox_id
            join webhook_endpoints e on e.id = picked.endpoint_id
            left join callback_attempts a on a.delivery_id = picked.id and a.attempt = picked.attempt where"
    };
}

/// The table `waiting (endpoint_id, n)`: up to `$max` endpoints with unfinished deliveries, in the order of their ids,
/// the first of them where `$first` holds. It walks the index from one endpoint to the next, because `distinct` would
/// read every unfinished delivery.
macro_rules! with_waiting_endpoints {
    ($first:literal, $max:literal) => {
        concat!(
            "with recursive waiting (endpoint_id, n) as (
            select (select d.endpoint_id from callback_deliveries d
                    where d.due_at is not null ",
            $first,
            " order by d.endpoint_id limit 1), cast(1 as bigint)
            union all
            select (select d.endpoint_id from callback_deliveries d
                    where d.due_at is not null and d.endpoint_id > waiting.endpoint_id order by d.endpoint_id limit 1), n + 1
            from waiting where waiting.endpoint_id is not null and n < ",
            $max,
            ")"
        )
    };
}

/// The state of an event from its own due time and the numbers of its pending and failed deliveries: the rule of
/// `wharf_domain::event_state`, for statements that sum up many events at once.
macro_rules! event_state {
    ($due_at:literal, $pending:literal, $failed:literal) => {
        concat!(
            "case when ",
            $pending,
            " > 0 or ",
            $due_at,
            " is not null then 'pending' when ",
            $failed,
            " > 0 then 'failed' else 'success' end"
        )
    };
}

pub(crate) use {
    deliveries_with_events, endpoint_columns, event_state, filtered_logs, has_token, hold_columns,
    is_held, letters, listed_columns, listed_filter, listed_inner, log_columns, log_is, logs,
    original, picked_letters, store_columns, with_waiting_endpoints,
};
