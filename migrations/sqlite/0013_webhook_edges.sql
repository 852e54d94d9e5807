-- The same columns as in migrations/postgres/0013_webhook_edges.sql, which explains them.
alter table webhook_endpoints add column generation integer not null default 0;
alter table callback_deliveries add column resend_requested integer not null default 0 check (resend_requested in (0, 1));
alter table callback_deliveries add column lost_at integer;
alter table callback_outbox add column only_endpoint blob;
alter table callback_outbox add column only_delivery blob;
create unique index callback_outbox_by_delivery on callback_outbox (only_delivery) where only_delivery is not null;
alter table callback_outbox add column waits_for text;
create index callback_outbox_waiting on callback_outbox (organization_id, event) where waits_for is not null;

-- The same table, too.
create table idempotency_keys (
    identity        text primary key,
    organization_id text not null,
    content         text not null,
    fence           integer not null,
    held_until      integer,
    answer          blob,
    created_at      integer not null
) strict;
create index idempotency_keys_by_organization on idempotency_keys (organization_id);
create index idempotency_keys_by_age on idempotency_keys (created_at);
