//! What an export holds: tables, and each column's name in it, or that it is withheld. Nothing that is not named here leaves.

use super::{catalogue::Known, kind::Kind};

/// An exported table.
#[derive(Debug)]
pub(crate) struct Exported {
    /// The `type` of its lines.
    pub(crate) kind: &'static str,
    pub(crate) table: &'static str,
    /// Its rows as SQL names them, with the parent's where they are found through it.
    pub(crate) from: &'static str,
    /// The column that narrows it down: to an organization, or to a row of the parent.
    pub(crate) owner: (&'static str, Kind),
    /// SQL that is true of the rows that there still are for their owner.
    pub(crate) condition: &'static str,
    /// The order of the walk, which an index behind `owner` has.
    pub(crate) order: &'static [(&'static str, Kind)],
    pub(crate) fields: &'static [Field],
    /// Columns that stay here: secrets, and what is of use to workers alone.
    withheld: &'static [&'static str],
    /// Exported behind each page of its rows, found by their ids.
    pub(crate) children: &'static [Exported],
}

/// A column, its name in lines, and its form there.
pub(crate) type Field = (&'static str, &'static str, Form);

/// The form of a value in a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// As the API shows a value of this kind; money as text.
    Plain(Kind),
    /// Microseconds, told in milliseconds.
    Millis,
}

impl Form {
    /// The kind of the column.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Plain(kind) => kind,
            Self::Millis => Kind::Int,
        }
    }
}

const UUID: Form = Form::Plain(Kind::Uuid);
const TEXT: Form = Form::Plain(Kind::Text);
const INT: Form = Form::Plain(Kind::Int);
const TRUTH: Form = Form::Plain(Kind::Truth);
const TIME: Form = Form::Plain(Kind::Time);
const MONEY: Form = Form::Plain(Kind::Money);
const JSON: Form = Form::Plain(Kind::Json);

/// Events come last: of every delivery that was read, the event is there too, unless it was purged meanwhile.
pub(crate) const TOP: &[Exported] = &[
    Exported {
        kind: "store",
        table: "stores",
        from: "stores",
        owner: ("organization_id", Kind::Text),
        // Those that are being removed are not found any more.
        condition: "removed_at is null",
        order: &[("organization_id", Kind::Text), ("id", Kind::Uuid)],
        fields: &[
            ("id", "id", UUID),
            ("organization_id", "organizationId", TEXT),
            ("marketplace", "marketplace", TEXT),
            ("external_store_id", "externalStoreId", TEXT),
            ("store_name", "storeName", TEXT),
            ("currency", "currency", TEXT),
            ("sync_status", "syncStatus", TEXT),
            ("last_sync_at", "lastSyncAt", TIME),
            ("last_run_at", "lastRunAt", TIME),
            ("imported_orders", "importedOrders", INT),
            ("rate_limited_count", "rateLimitedCount", INT),
            ("created_at", "createdAt", TIME),
            ("updated_at", "updatedAt", TIME),
        ],
        withheld: &[
            "identity",
            "access_token",
            "sync_token",
            "sync_token_sealed",
            "removed_at",
            "credentials_changed_at",
        ],
        children: &[RECEIPTS],
    },
    Exported {
        kind: "webhook",
        table: "webhook_endpoints",
        from: "webhook_endpoints",
        owner: ("organization_id", Kind::Text),
        condition: "true",
        order: &[
            ("organization_id", Kind::Text),
            ("event", Kind::Text),
            ("id", Kind::Uuid),
        ],
        fields: &[
            ("id", "id", UUID),
            ("organization_id", "organizationId", TEXT),
            ("event", "event", TEXT),
            ("target_url", "targetUrl", TEXT),
            ("shaper", "shaper", TEXT),
            ("is_active", "isActive", TRUTH),
            ("disabled_reason", "disabledReason", TEXT),
            ("signs_v1a", "asymmetric", TRUTH),
            ("rate_per_minute", "ratePerMinute", INT),
            ("failures", "consecutiveFailures", INT),
            ("failing_since", "failingSince", TIME),
            ("paused_until", "pausedUntil", TIME),
            ("created_at", "createdAt", TIME),
            ("updated_at", "updatedAt", TIME),
        ],
        withheld: &[
            "identity",
            "secret",
            "retired_secrets",
            "signing_root",
            "paced_until",
            "pauses",
            // It names what is inside: owners are told less, with their deliveries.
            "last_error",
            "generation",
        ],
        children: &[DELIVERIES, ATTEMPTS],
    },
    Exported {
        kind: "event",
        table: "callback_outbox",
        from: "callback_outbox",
        owner: ("organization_id", Kind::Text),
        condition: "true",
        order: &[
            ("organization_id", Kind::Text),
            ("created_at", Kind::Time),
            ("id", Kind::Uuid),
        ],
        fields: &[
            ("id", "id", UUID),
            ("organization_id", "organizationId", TEXT),
            ("store_id", "storeId", UUID),
            ("event", "event", TEXT),
            ("payload", "payload", JSON),
            ("status", "status", TEXT),
            ("attempt", "attempt", INT),
            ("next_retry_at", "nextRetryAt", TIME),
            ("last_error", "lastError", TEXT),
            ("request_id", "requestId", TEXT),
            ("created_at", "createdAt", TIME),
            ("updated_at", "updatedAt", TIME),
        ],
        withheld: &[
            "due_at",
            "fence",
            "fan_out_attempt",
            "traceparent",
            "fan_out_after",
            "fan_out_deferred",
            "shaper_faults",
            "only_endpoint",
            "only_delivery",
            "waits_for",
        ],
        children: &[],
    },
];

const RECEIPTS: Exported = Exported {
    kind: "receipt",
    table: "sync_logs",
    from: "sync_logs",
    owner: ("store_id", Kind::Uuid),
    condition: "true",
    order: &[("created_at", Kind::Time), ("id", Kind::Uuid)],
    fields: &[
        ("id", "id", UUID),
        ("store_id", "storeId", UUID),
        ("receipt", "receipt", TEXT),
        ("status", "status", TEXT),
        ("attempt", "attempt", INT),
        ("next_retry_at", "nextRetryAt", TIME),
        ("exhausted", "exhausted", TRUTH),
        ("order_id", "orderId", TEXT),
        ("amount", "amount", MONEY),
        ("currency", "currency", TEXT),
        ("imported_at", "importedAt", TIME),
        ("duplicate_of", "duplicateOf", UUID),
        ("last_error", "lastError", TEXT),
        ("plugin_digest", "pluginDigest", TEXT),
        ("request_id", "requestId", TEXT),
        ("sync_request_id", "syncRequestId", TEXT),
        ("created_at", "createdAt", TIME),
        ("updated_at", "updatedAt", TIME),
    ],
    withheld: &["plugin_faults", "refusals"],
    children: &[],
};

const DELIVERIES: Exported = Exported {
    kind: "delivery",
    table: "callback_deliveries",
    from: "callback_deliveries",
    owner: ("endpoint_id", Kind::Uuid),
    condition: "true",
    order: &[("id", Kind::Uuid)],
    fields: &[
        ("id", "id", UUID),
        ("outbox_id", "eventId", UUID),
        ("endpoint_id", "webhookId", UUID),
        ("organization_id", "organizationId", TEXT),
        ("shaper", "shaper", TEXT),
        ("state", "state", TEXT),
        ("attempt", "attempt", INT),
        ("due_at", "nextAttemptAt", TIME),
        ("last_error", "lastError", TEXT),
        ("created_at", "createdAt", TIME),
        ("updated_at", "updatedAt", TIME),
    ],
    withheld: &[
        "fence",
        "claimed_by",
        "schedule_base",
        "resend_requested",
        "lost_at",
    ],
    children: &[],
};

const ATTEMPTS: Exported = Exported {
    kind: "attempt",
    table: "callback_attempts",
    from: "callback_deliveries d join callback_attempts a on a.delivery_id = d.id",
    owner: ("d.endpoint_id", Kind::Uuid),
    condition: "true",
    order: &[("d.id", Kind::Uuid), ("a.attempt", Kind::Int)],
    fields: &[
        ("a.delivery_id", "deliveryId", UUID),
        ("a.attempt", "attempt", INT),
        ("a.started_at", "startedAt", TIME),
        ("a.latency_us", "latencyMs", Form::Millis),
        ("a.http_status", "httpStatus", INT),
        ("a.error", "error", TEXT),
        ("a.response", "response", TEXT),
    ],
    withheld: &[],
    children: &[],
};

/// Every exported table.
pub(crate) fn all() -> impl Iterator<Item = &'static Exported> {
    TOP.iter().chain(TOP.iter().flat_map(|top| top.children))
}

impl Exported {
    /// Tells what is otherwise in the database: a column that is not named, or named twice, or of another kind.
    pub(super) fn check(&self, known: &Known) -> Vec<String> {
        let bare = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
        let fields = self
            .fields
            .iter()
            .map(|(column, _, form)| (bare(column), Some(form.kind())));
        let named: Vec<_> = fields
            .chain(self.withheld.iter().map(|column| (*column, None)))
            .collect();
        let mut wrong = Vec::new();
        for (column, kind) in known.table.columns.iter().zip(&known.kinds) {
            let place = format!("{}.{}", self.table, column.name);
            match named
                .iter()
                .filter(|(name, _)| *name == column.name)
                .collect::<Vec<_>>()[..]
            {
                [(_, None)] => {}
                [(_, Some(form))] if form == kind => {}
                [] => wrong.push(format!(
                    "{place}: say in `exported.rs` what it is called, or that it is withheld"
                )),
                _ => wrong.push(format!(
                    "{place} is {kind:?}, and named otherwise or twice in `exported.rs`"
                )),
            }
        }
        for (name, _) in named {
            if known.table.columns.iter().all(|column| column.name != name) {
                wrong.push(format!("{} has no column {name}", self.table));
            }
        }
        wrong
    }
}
